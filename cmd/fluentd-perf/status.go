package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/proxy"
)

func statusCommand() *cobra.Command {
	var params api.StatusParams
	c := &cobra.Command{
		Use: "status", Short: "Show what a running daemon does: servers, breakers, queues, sessions, tiers",
		Long: "Shows every upstream with each of its endpoints, and every tier of the cache; \"-\" is what is not known or not there.\n" +
			"A server that is a command has its program for an endpoint, and the number of its processes; --processes lists them,\n" +
			"and what each such server has ready: processes that no session has yet, those that sessions have, and sessions that\n" +
			"have needed none so far. After \"=\" is the exact version that an npx command runs of a package that is installed.\n" +
			"OLDEST is how long the oldest call of an agent has been under way; --calls lists them all.\n" +
			"BREAKER is closed (in use), open (not called, with the time until the next try), half-open (one call tries, or the next one that comes) or off.\n" +
			"LAST ERROR is, of an endpoint that has failed since it last worked, for how long, how often and why.\n" +
			"--memory says where the memory of the daemon's own process is, in parts that add up to it, and what holds objects and stacks.\n" +
			"HEALED are sessions that were opened again after the server had lost them, LOST those that could not be.\n" +
			"PENDING are invalidations that a tier could not be told of yet: it is not read for them until it has been.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
	}
	c.Flags().BoolVar(&params.Calls, "calls", false, "list the calls of agents under way, the oldest of each server first")
	c.Flags().BoolVar(&params.Processes, "processes", false, "list the processes of servers that are commands, with what each has started, the oldest of each server first")
	c.Flags().BoolVar(&params.Memory, "memory", false, "say where the memory of the daemon's own process is")
	c.MarkFlagsMutuallyExclusive("calls", "processes", "memory")
	asking(c, api.CallStatus, &params, func(w io.Writer, a api.Status) error {
		switch {
		case params.Calls:
			return callTable(w, a)
		case params.Processes:
			return processTable(w, a)
		case params.Memory && a.Memory != nil:
			return memoryTable(w, a.Memory)
		}
		return statusTables(w, a)
	})
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
	t := newTable(w)
	row(t, "UPSTREAM", "ENDPOINT", "BREAKER", "IN FLIGHT", "OLDEST", "QUEUE", "RETRIES", "HEDGES", "SESSIONS", "HEALED", "LOST", "LAST ERROR")
	for _, u := range a.Upstreams {
		upstreamRows(t, u, a.Now)
	}
	fmt.Fprintln(t)
	row(t, "TIER", "ENTRIES", "SIZE", "QUEUE", "PENDING", "BREAKER", "LAST ERROR")
	for _, r := range a.Tiers {
		row(t, r.Tier, known(r.Entries), size(r.Bytes), r.Queue, r.Pending, cmp.Or(r.Breaker, "-"), cmp.Or(r.Error, "-"))
	}
	if p := a.Packages; p != nil {
		fmt.Fprintf(t, "\npackages of npx commands: %d installed, %d in use, %s\n", p.Installs, p.InUse, size(p.Bytes))
	}
	return t.Flush()
}

// upstreamRows writes a line for each endpoint; what is of the upstream as a whole stands in the first one.
func upstreamRows(w io.Writer, u api.UpstreamStatus, now time.Time) {
	for i, e := range u.Endpoints {
		host := "-"
		if i < len(u.Hosts) {
			host = u.Hosts[i]
		}
		if u.Package != "" {
			host += " = " + u.Package
		}
		if u.ProcessesNow > 0 {
			host += fmt.Sprintf(" (%d)", u.ProcessesNow)
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
	t := newTable(w)
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

// processTable lists the processes of stdio servers, and what these have ready. Memory and CPU are those of all that a process has
// started.
func processTable(w io.Writer, a api.Status) error {
	t := newTable(w)
	row(t, "UPSTREAM", "PID", "AGE", "STATE", "SESSIONS", "PROCESSES", "MEMORY (PSS)", "CPU", "LAST LINE OF STDERR")
	for _, u := range a.Upstreams {
		for _, p := range u.Processes {
			pid, sessions := "-", fmt.Sprint(p.Sessions)
			if p.PID > 0 {
				pid = fmt.Sprint(p.PID)
			}
			switch {
			case p.Shared && p.Sessions > 0:
				sessions = fmt.Sprintf("shared by %d", p.Sessions)
			case p.Shared:
				sessions = "shared"
			}
			cpu := rounded(time.Duration(p.CPUMs) * time.Millisecond)
			if p.BusyMs > 0 {
				cpu += fmt.Sprintf(", a core for %s without a call", rounded(time.Duration(p.BusyMs)*time.Millisecond))
			}
			row(t, u.Upstream, pid, rounded(time.Duration(p.AgeMs)*time.Millisecond), p.State, sessions, p.Processes,
				size(cmp.Or(p.PSS, -1)), cpu, cmp.Or(p.Stderr, "-"))
		}
	}
	fmt.Fprintln(t)
	row(t, "UPSTREAM", "SPARE", "USED", "REMEMBERED", "WITHOUT SPARES BECAUSE")
	for _, u := range a.Upstreams {
		if r := u.Ready; r != nil {
			row(t, u.Upstream, r.Spare, r.Used, r.Remembered, cmp.Or(r.WithoutSpares, "-"))
		}
	}
	return t.Flush()
}

// memoryTable writes the parts of the memory, and what holds it.
func memoryTable(w io.Writer, m *api.Memory) error {
	limit := "none"
	if m.Limit > 0 {
		limit = size(m.Limit)
	}
	fmt.Fprintf(w, "memory of the daemon's own process: %s; Go's limit: %s\n\n", size(cmp.Or(m.RSS, -1)), limit)
	t := newTable(w)
	row(t, "PART", "SIZE")
	for _, p := range m.Parts {
		row(t, p.Name, size(p.Bytes))
	}
	fmt.Fprintln(t)
	row(t, "HOLDS MEMORY", "COUNT", "SIZE")
	for _, h := range m.Holders {
		row(t, h.Name, known(h.Count), size(h.Bytes))
	}
	return t.Flush()
}

func age(c proxy.CallStatus) string { return rounded(time.Duration(c.AgeMs) * time.Millisecond) }

// lastError says what is wrong with an endpoint and since when, else what went wrong last and when, if it was there.
func lastError(u api.UpstreamStatus, endpoint int, now time.Time) string {
	if t := u.Endpoints[endpoint].Trouble; t != nil {
		return fmt.Sprintf("for %s, %d times: %s", rounded(now.Sub(t.Since)), t.Failures, t.Message)
	}
	e := u.LastError
	if e == nil || e.Endpoint != endpoint {
		return "-"
	}
	return fmt.Sprintf("%s, %s ago", e.Reason, rounded(now.Sub(e.At)))
}
