package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/proxy"
)

func statusCommand() *cobra.Command {
	var socket socketFlag
	var output string
	var calls bool
	c := &cobra.Command{
		Use: "status", Short: "Show what a running daemon does: servers, breakers, queues, sessions, tiers", Args: cobra.NoArgs,
		Long: "Shows every upstream with each of its endpoints, and every tier of the cache; \"-\" is what is not known or not there.\n" +
			"OLDEST is how long the oldest call of an agent has been under way; --calls lists them all.\n" +
			"BREAKER is closed (in use), open (left alone, with the time until the next try), half-open (one call tries, or the next one that comes) or off.\n" +
			"LAST ERROR is, of an endpoint that has failed since it last worked, for how long, how often and why.\n" +
			"HEALED are sessions that were opened again after the server had lost them, LOST those that could not be.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
		RunE: func(c *cobra.Command, _ []string) error {
			var answer api.Status
			if err := socket.ask(c, api.CallStatus, api.StatusParams{Calls: calls}, &answer); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), answer)
			}
			if calls {
				return callTable(c.OutOrStdout(), answer)
			}
			return statusTables(c.OutOrStdout(), answer)
		},
	}
	socket.register(c)
	outputFlag(c, &output)
	c.Flags().BoolVar(&calls, "calls", false, "list the calls of agents under way, the oldest of each server first")
	return c
}

// statusTables writes the status for people.
func statusTables(w io.Writer, a api.Status) error {
	state := "up"
	if a.Draining {
		state = "draining, up"
	}
	fmt.Fprintf(w, "fluentd-perf %s, %s %s, on %s, %d calls in flight\n\n",
		printable(a.Version), state, rounded(a.Now.Sub(a.Started)), printable(strings.Join(a.Addresses, ", ")), a.InFlight)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "UPSTREAM", "ENDPOINT", "BREAKER", "IN FLIGHT", "OLDEST", "QUEUE", "RETRIES", "HEDGES", "SESSIONS", "HEALED", "LOST", "LAST ERROR")
	for _, u := range a.Upstreams {
		upstreamRows(t, u, a.Now)
	}
	fmt.Fprintln(t)
	row(t, "TIER", "ENTRIES", "SIZE", "QUEUE", "OWED", "BREAKER", "LAST ERROR")
	for _, r := range a.Tiers {
		row(t, r.Tier, known(r.Entries), size(r.Bytes), r.Queue, r.Owed, cmp.Or(r.Breaker, "-"), cmp.Or(r.Error, "-"))
	}
	return t.Flush()
}

// upstreamRows writes a line for each endpoint; what is of the upstream as a whole stands in the first one.
func upstreamRows(w io.Writer, u api.Upstream, now time.Time) {
	for i, e := range u.Endpoints {
		host := "-"
		if i < len(u.Hosts) {
			host = u.Hosts[i]
		}
		if i > 0 {
			row(w, "", host, breakerText(e), e.InFlight, "", "", "", "", "", "", "", lastError(u, i, now))
			continue
		}
		sessions, healed, lost, oldest := "-", "-", "-", "-"
		if len(u.Calls) > 0 {
			oldest = age(u.Calls[0])
		}
		if s := u.Sessions; s != nil {
			sessions, healed, lost = fmt.Sprint(s.Sessions), fmt.Sprint(s.Healed), fmt.Sprint(s.GaveUp)
		}
		row(w, u.Upstream, host, breakerText(e), e.InFlight, oldest, u.Queued, u.Retries, u.Hedges, sessions, healed, lost, lastError(u, i, now))
	}
}

func breakerText(e dispatch.EndpointStatus) string {
	switch {
	case e.Breaker == breaker.Open && e.RetryAfterMs > 0:
		return fmt.Sprintf("%s, next try in %s", e.Breaker, rounded(time.Duration(e.RetryAfterMs)*time.Millisecond))
	case e.Breaker == breaker.HalfOpen && e.InFlight == 0:
		return e.Breaker + ", the next call tries"
	}
	return e.Breaker
}

// callTable lists the calls under way.
func callTable(w io.Writer, a api.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "UPSTREAM", "AGE", "METHOD", "TOOL", "AGENT", "REQUEST")
	for _, u := range a.Upstreams {
		for _, c := range u.Calls {
			row(t, c.Upstream, age(c), c.Method, cmp.Or(c.Tool, "-"), c.Agent, c.Request)
		}
		if left := u.CallsNow - len(u.Calls); left > 0 {
			row(t, u.Upstream, fmt.Sprintf("and %d more", left))
		}
	}
	return t.Flush()
}

func age(c proxy.CallStatus) string { return rounded(time.Duration(c.AgeMs) * time.Millisecond) }

// lastError says what is wrong with an endpoint and since when, else what went wrong last and when, if it was there.
func lastError(u api.Upstream, endpoint int, now time.Time) string {
	if t := u.Endpoints[endpoint].Trouble; t != nil {
		return fmt.Sprintf("for %s, %d times: %s", rounded(now.Sub(t.Since)), t.Failures, t.Message)
	}
	e := u.LastError
	if e == nil || e.Endpoint != endpoint {
		return "-"
	}
	return fmt.Sprintf("%s, %s ago", e.Reason, rounded(now.Sub(e.At)))
}

// rounded writes a time as people say it.
func rounded(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
