package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/session"
)

// statusCall is the name of status on the admin socket.
const statusCall = "status"

type statusQuestion struct{}

// statusAnswer is what a daemon does now.
type statusAnswer struct {
	Version   string           `json:"version"`
	Started   time.Time        `json:"started"`
	Now       time.Time        `json:"now"` // by the daemon's clock
	Addresses []string         `json:"addresses"`
	Draining  bool             `json:"draining"`
	InFlight  int              `json:"inFlight"` // calls that hold a slot, over all upstreams
	Upstreams []upstreamStatus `json:"upstreams"`
	Tiers     []tierStatus     `json:"tiers"`
}

// upstreamStatus is one upstream: its admission, its endpoints and its sessions.
type upstreamStatus struct {
	Upstream string          `json:"upstream"`
	Hosts    []string        `json:"hosts"`              // of the endpoints, in their order
	Sessions *session.Status `json:"sessions,omitempty"` // null where there are none
	breaker.Status
}

// tierStatus is one tier of the cache.
type tierStatus struct {
	Tier    string `json:"tier"`
	Entries int64  `json:"entries"` // -1 where it is not known
	Bytes   int64  `json:"bytes"`   // -1 where it is not known
	Queue   int    `json:"queue"`   // entries that wait to be written
	Owed    int    `json:"owed"`    // what it could not be told of yet
	Breaker string `json:"breaker"` // "" for memory
	Error   string `json:"error"`   // the last one
}

// status says what the daemon does now.
func (d *daemon) status(ctx context.Context) (statusAnswer, error) {
	a := statusAnswer{
		Version: buildVersion(), Started: d.started, Now: time.Now(), Addresses: d.addresses(), Draining: d.draining.Load(),
		InFlight: d.total.InFlight(),
	}
	for _, r := range d.roads {
		a.Upstreams = append(a.Upstreams, r.status())
	}
	for _, t := range d.store.Stats(ctx, false).Tiers {
		a.Tiers = append(a.Tiers, tierStatus{t.Tier, t.Entries, t.Bytes, t.Queue, t.Owed, t.Breaker, t.Error})
	}
	return a, nil
}

func (r *road) status() upstreamStatus {
	s := upstreamStatus{Upstream: r.upstream.Name, Status: r.breaker.Status()}
	for _, u := range r.upstream.URLs {
		s.Hosts = append(s.Hosts, u.Host) // all else of a URL may be a secret
	}
	if r.session != nil && r.upstream.Sessions.Heal != config.HealOff { // which knows of none
		sessions := r.session.Status()
		s.Sessions = &sessions
	}
	return s
}

func statusCommand() *cobra.Command {
	var socket socketFlag
	var output string
	c := &cobra.Command{
		Use: "status", Short: "Show what a running daemon does: servers, breakers, queues, sessions, tiers", Args: cobra.NoArgs,
		Long: "Shows every upstream with each of its endpoints, and every tier of the cache; \"-\" is what is not known or not there.\n" +
			"BREAKER is closed (in use), open (left alone, with the time until the next try), half-open (one call tries, or the next one that comes) or off.\n" +
			"HEALED are sessions that were opened again after the server had lost them, LOST those that could not be.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
		RunE: func(c *cobra.Command, _ []string) error {
			var answer statusAnswer
			if err := socket.ask(c, statusCall, statusQuestion{}, &answer); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), answer)
			}
			return statusTables(c.OutOrStdout(), answer)
		},
	}
	socket.register(c)
	outputFlag(c, &output)
	return c
}

// statusTables writes the status for people.
func statusTables(w io.Writer, a statusAnswer) error {
	state := "up"
	if a.Draining {
		state = "draining, up"
	}
	fmt.Fprintf(w, "fluentd-perf %s, %s %s, on %s, %d calls in flight\n\n",
		printable(a.Version), state, rounded(a.Now.Sub(a.Started)), printable(strings.Join(a.Addresses, ", ")), a.InFlight)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "UPSTREAM", "ENDPOINT", "BREAKER", "IN FLIGHT", "QUEUE", "RETRIES", "HEDGES", "SESSIONS", "HEALED", "LOST", "LAST ERROR")
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
func upstreamRows(w io.Writer, u upstreamStatus, now time.Time) {
	for i, e := range u.Endpoints {
		host := "-"
		if i < len(u.Hosts) {
			host = u.Hosts[i]
		}
		if i > 0 {
			row(w, "", host, breakerText(e), e.InFlight, "", "", "", "", "", "", lastError(u.LastError, i, now))
			continue
		}
		sessions, healed, lost := "-", "-", "-"
		if s := u.Sessions; s != nil {
			sessions, healed, lost = fmt.Sprint(s.Sessions), fmt.Sprint(s.Healed), fmt.Sprint(s.GaveUp)
		}
		row(w, u.Upstream, host, breakerText(e), e.InFlight, u.Queued, u.Retries, u.Hedges, sessions, healed, lost, lastError(u.LastError, i, now))
	}
}

func breakerText(e breaker.EndpointStatus) string {
	switch {
	case e.Breaker == breaker.Open && e.RetryAfterMs > 0:
		return fmt.Sprintf("%s, next try in %s", e.Breaker, rounded(time.Duration(e.RetryAfterMs)*time.Millisecond))
	case e.Breaker == breaker.HalfOpen && e.InFlight == 0:
		return e.Breaker + ", the next call tries"
	}
	return e.Breaker
}

// lastError says what went wrong last and when, if it was at that endpoint.
func lastError(e *breaker.LastError, endpoint int, now time.Time) string {
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
