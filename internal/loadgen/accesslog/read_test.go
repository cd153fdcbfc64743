package accesslog_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen/accesslog"
)

// request is an access line as internal/proxy writes it: its end in milliseconds, what it was, how long it took there and in all.
type request struct {
	at             int
	upstream, verb string
	method, tool   string
	agent, cache   string
	outcome        string
	status, in     int
	took, answered float64
	more           []slog.Attr
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// log writes lines with the handlers that the daemon has.
func log(json bool, requests ...request) string {
	var out bytes.Buffer
	var handler slog.Handler = slog.NewTextHandler(&out, nil)
	if json {
		handler = slog.NewJSONHandler(&out, nil)
	}
	for _, q := range requests {
		record := slog.NewRecord(start.Add(time.Duration(q.at)*time.Millisecond), slog.LevelInfo, "request", 0)
		record.AddAttrs(slog.String("id", "x-1"), slog.String("upstream", q.upstream), slog.String("verb", or(q.verb, "POST")), slog.String("method", q.method),
			slog.String("outcome", or(q.outcome, "ok")), slog.Int("status", max(q.status, 200)), slog.Int("in", q.in), slog.Int("out", 10*q.in),
			slog.Float64("took_ms", q.took), slog.String("tool", q.tool), slog.String("agent", or(q.agent, `a "good" agent`)), slog.String("cache", q.cache))
		if q.answered > 0 {
			record.AddAttrs(slog.Float64("answered_ms", q.answered))
		}
		record.AddAttrs(q.more...)
		if err := handler.Handle(context.Background(), record); err != nil {
			panic(err)
		}
	}
	return out.String()
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func read(t *testing.T, text string) *accesslog.Report {
	t.Helper()
	r, err := accesslog.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// traffic is a bit of everything, of which the figures are known.
func traffic() []request {
	call := func(at int, cache string) request {
		return request{at: at, upstream: "docs", method: "tools/list", in: 60, took: 101, answered: 100, cache: cache}
	}
	tool := func(at, in int) request {
		return request{at: at, upstream: "docs", method: "tools/call", tool: "search", in: in, took: 50, answered: 40, cache: "fwd=bypass"}
	}
	hit, joined := call(5000, "hit; ttl=299; detail=memory"), call(5100, "fwd=miss; collapsed")
	hit.took, hit.answered, joined.answered = 1, 0, 0
	another := call(6000, "fwd=miss")
	another.agent = "other"
	return []request{
		{at: 10, upstream: "docs", method: "initialize", in: 100, took: 9, answered: 8, cache: "fwd=bypass", more: []slog.Attr{slog.Float64("connect_ms", 4), slog.String("session", "s")}},
		{at: 20, upstream: "docs", method: "notifications/initialized", in: 50, took: 2, answered: 2},
		call(1000, "fwd=miss; stored"), // the first
		call(2000, "fwd=miss"),         // could have been a hit
		call(2050, "fwd=miss"),         // came while that was under way
		hit, joined, another,           // another agent's is not
		call(2050+300_000+200, "fwd=miss"), // more than five minutes later neither
		tool(7000, 70), tool(8000, 70), tool(9000, 71),
		{at: 9100, upstream: "docs", method: "resources/read", in: 30, took: 5, answered: 5}, {at: 9200, upstream: "docs", method: "resources/read", in: 30, took: 5, answered: 5},
		{at: 9300, upstream: "docs", method: "tools/list", in: 60, took: 3, outcome: "rpc_error", status: 404, more: []slog.Attr{slog.String("session", "s")}},
		{at: 9400, upstream: "docs", method: "GET", verb: "GET", took: 60_000}, {at: 9401, upstream: "docs", method: "rpc", took: 1}, {at: 9402, upstream: "docs", method: "response", took: 1},
		{at: 9500, upstream: "code", method: "tools/call", tool: "x", in: 1, took: 7, outcome: "failed", more: []slog.Attr{slog.String("reason", "session_restarted")}},
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// TestRead counts what happened and what could have been saved, in both formats and with what log collectors put before the lines.
func TestRead(t *testing.T) {
	sentence := "time=2026-03-01T12:00:00.000Z level=INFO msg=\"fluentd-perf is ready\" upstream=docs method=x\n"
	for name, text := range map[string]string{
		"text": log(false, traffic()...), "JSON": log(true, traffic()...),
		"journald":  prefixed("Mar 01 12:00:00 host fluentd-perf[123]: ", log(false, traffic()...)),
		"container": prefixed("2026-03-01T12:00:00.1Z stderr F ", log(true, traffic()...)),
		"CRLF":      strings.ReplaceAll(log(false, traffic()...), "\n", "\r\n"),
	} {
		r := read(t, sentence+text+"\nnonsense\n{\"time\":\ntime=1 msg=request upstream=x method=y\n"+strings.Repeat("x", 200_000)+"\n"+sentence)
		if r.Lines != 19 || r.Others != 6 || r.TooLong != 1 || len(r.Servers) != 2 || r.Servers[0].Name != "code" {
			t.Fatalf("%s: %+v", name, r)
		}
		code, docs := r.Servers[0], r.Servers[1]
		if code.Calls != 1 || code.Failed != 1 || code.DeadSessions != 1 || !near(code.DeadSessionTime, 0.007) || code.Possible.Calls() != 0 {
			t.Errorf("%s: %+v", name, code)
		}
		p := docs.Possible
		if docs.Calls != 15 || docs.Failed != 1 || docs.Hits != 1 || docs.Collapsed != 1 || !near(docs.SavedSeconds, 0.2) {
			t.Errorf("%s: %+v", name, docs)
		}
		if docs.Handshakes != 2 || !near(docs.HandshakeTime, 0.01) || docs.Connections != 1 || !near(docs.ConnectSeconds, 0.004) || docs.DeadSessions != 1 {
			t.Errorf("%s: %+v", name, docs)
		}
		if p.ListHits != 1 || p.Coalescable != 1 || p.ToolHits != 1 || p.ReadHits != 1 || p.Calls() != 4 || !near(p.Seconds(), 0.1+0.1+0.04+0.005) {
			t.Errorf("%s: %+v", name, p)
		}
		if !r.From.Equal(start.Add(9400*time.Millisecond-time.Minute)) || !r.To.Equal(start.Add(302250*time.Millisecond)) {
			t.Errorf("%s: from %v", name, r.From)
		}
	}
}

func prefixed(prefix, text string) string {
	return prefix + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+prefix) + "\n"
}

// TestReadIsBounded: of a log of many servers, tools and sizes only so many are kept, and what is not the daemon's is no error.
func TestReadIsBounded(t *testing.T) {
	const lines = 60_000
	in, out := io.Pipe()
	go func() {
		for i := range lines {
			name := "a"
			if i < 3000 {
				name = fmt.Sprint("server-", i)
			}
			fmt.Fprintf(out, "time=2026-03-01T12:00:00Z level=INFO msg=request upstream=%s verb=POST method=tools/call tool=%d outcome=ok in=%d took_ms=1e300\n", name, i, i)
		}
		out.Close()
	}()
	r, err := accesslog.Read(in)
	if err != nil || r.Lines != lines || len(r.Servers) != 1001 || r.Servers[0].Name != "(others)" || r.Servers[0].Calls != lines-1000 {
		t.Errorf("%v: %d lines, %d servers", err, r.Lines, len(r.Servers))
	}
	if r, err := accesslog.Read(strings.NewReader("")); err != nil || r.Lines != 0 || r.Servers == nil {
		t.Errorf("an empty log: %+v, %v", r, err)
	}
	broken := errors.New("broken")
	if _, err := accesslog.Read(io.MultiReader(strings.NewReader("x\n"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("the reader's error: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzRead reads anything.
func FuzzRead(f *testing.F) {
	f.Add(log(false, traffic()...))
	f.Add(log(true, traffic()...))
	f.Add(`time=x msg="request`)
	f.Fuzz(func(t *testing.T, text string) {
		r := read(t, text)
		if r.Lines+r.Others > int64(strings.Count(text, "\n")+1) {
			t.Errorf("%d + %d lines", r.Lines, r.Others)
		}
	})
}

var update = flag.Bool("update", false, "write the schema of reports")

// TestSchema holds the committed schema to the types. That what is printed conforms, the script benchmark_from_log of the program
// holds. `go test ./internal/loadgen/accesslog -update` writes it.
func TestSchema(t *testing.T) {
	want, err := accesslog.Schema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../../docs/benchmark-log.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the types say (%v): go test ./internal/loadgen/accesslog -update", file, err)
	}
}
