package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// pieces are an event that is too large to hold, as the upstream hands it on.
func pieces(answer bool) []mcp.Event {
	return []mcp.Event{
		{Raw: []byte("data: {\"a\":"), Partial: true}, {Raw: []byte("1,\n"), Partial: true, More: true}, {Raw: []byte("data: \"b\":2}\n\n"), Answer: answer},
	}
}

// TestAnswerEvents holds which event is the answer of a stream, and what is counted for it: any answer, whatever its id, and
// what cannot be read. An end or a break after it is an end.
func TestAnswerEvents(t *testing.T) {
	message := func(raw string, kind mcp.Kind) mcp.Event {
		return mcp.Event{Raw: []byte("data: " + raw + "\n\n"), Data: []byte(raw), Answer: true, Message: mcp.Message{Kind: kind}}
	}
	broke := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
	for _, c := range []struct {
		name    string
		events  []mcp.Event
		outcome string
	}{
		{"a result with another id", []mcp.Event{message(`{"jsonrpc":"2.0","id":"1","result":{}}`, mcp.KindResult)}, "ok"},
		{"an error without an id", []mcp.Event{message(`{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`, mcp.KindError)}, "rpc_error"},
		{"an array", []mcp.Event{message(`[]`, mcp.KindBatch)}, "opaque"},
		{"no JSON", []mcp.Event{event("data: {}\n\n"), message(`{`, mcp.KindInvalid)}, "opaque"},
		{"too large to read", pieces(true), "ok"},
		{"a large notification before", append(pieces(false), message(`{}`, mcp.KindResult)), "ok"},
	} {
		for _, end := range []error{io.EOF, broke} {
			for _, version := range []string{"2025-11-25", "2026-07-28"} {
				o := observe(t, func() (*mcp.Result, error) {
					return streaming(&scripted{events: c.events, end: end})(t.Context(), nil)
				}, nil)
				var want string
				for _, ev := range c.events {
					want += string(ev.Raw)
				}
				if a := do(t, "POST", o.base+"/mcp/s", listTools, "Mcp-Protocol-Version", version); a.status != 200 || a.body != want {
					t.Errorf("%s, %v: got %d %q, want %q", c.name, end, a.status, a.body, want)
				}
				if n := requestsOf(t, o.reg, "tools/list", c.outcome); n != 1 {
					t.Errorf("%s, %v: %v are counted as %s", c.name, end, n, c.outcome)
				}
			}
		}
	}
}

// TestBreakInsideEvent holds that nothing, no end either, follows a piece of an event but the rest of it.
func TestBreakInsideEvent(t *testing.T) {
	broke := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
	late := &mcp.Failure{Code: 1504, Reason: mcp.ReasonIdle, Sent: mcp.SentYes}
	withID := mcp.Event{Raw: []byte("id: 1\ndata: \n\n"), HasID: true, ID: []byte("1")}
	whole := pieces(false)
	for name, events := range map[string][]mcp.Event{
		"at once":          whole[:1],
		"later":            whole[:2],
		"behind an id":     {withID, whole[0]},
		"after the answer": {{Raw: []byte("data: {}\n\n"), Answer: true, Message: mcp.Message{Kind: mcp.KindResult}}, whole[0]},
		"a failure of the daemon's": {whole[0], {Failure: &mcp.Failure{Code: 1502, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown},
			FailedID: []byte("1")}},
	} {
		for _, end := range []error{io.EOF, broke, late, mcp.Draining()} {
			for verb, body := range map[string]string{"POST": listTools, "POST of an array": `[` + listTools + `]`, "GET": ""} {
				want := ""
				for _, ev := range events {
					want += string(ev.Raw)
				}
				_, base := newHandler(t, streaming(&scripted{events: events, end: end}), nil)
				verb, _, _ = strings.Cut(verb, " ")
				req, err := http.NewRequest(verb, base+"/mcp/s", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil || !strings.HasPrefix(want, string(b)) {
					t.Errorf("%s of %s, %v: got %q, %v, want at most %q and a break", name, verb, end, b, err, want)
				}
			}
		}
	}
}

// slow is a stream whose events come so far apart that there are two comments between them.
type slow struct{ scripted }

func (s *slow) Next() (mcp.Event, error) {
	time.Sleep(36 * time.Second)
	return s.scripted.Next()
}

// TestQuietInsideEvent holds that no comment gets into an event that comes in pieces, that each piece leaves as it comes,
// and that comments go on behind it.
func TestQuietInsideEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &slow{scripted{events: append(pieces(false), event("data: 3\n\n")), end: io.EOF}}
		d, err := proxy.New(proxy.Options{
			Upstreams: []proxy.Route{{Name: "s", URL: mustURL(t, "http://server.test/mcp"), Caller: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
				return &mcp.Result{Status: 200, Header: header.List{}, Events: events}, nil
			})}},
			BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &flushes{ResponseRecorder: httptest.NewRecorder()}
		d.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/mcp/s", nil))
		const quiet = ":\n\n"
		want := []string{"", quiet, quiet, "data: {\"a\":", "1,\n", "data: \"b\":2}\n\n", quiet, quiet, "data: 3\n\n", quiet, quiet}
		if got := strings.Join(w.flushed, "|"); got != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", w.flushed, want)
		}
	})
}

// flushes keeps what each flush sends.
type flushes struct {
	*httptest.ResponseRecorder
	sent    int
	flushed []string
}

func (f *flushes) Flush() {
	body := f.Body.String()
	f.flushed = append(f.flushed, body[f.sent:])
	f.sent = len(body)
}

// TestRawAtOnce holds that a body that is not held leaves piece by piece, whether its length is known or not.
func TestRawAtOnce(t *testing.T) {
	for name, fields := range map[string]http.Header{
		"no length": {"Content-Type": {"application/octet-stream"}},
		"a length":  {"Content-Type": {"text/plain"}, "Content-Length": {"5"}},
		"encoded":   {"Content-Type": {"application/json"}, "Content-Encoding": {"br"}, "Content-Length": {"5"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := io.Pipe()
			_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
				return &mcp.Result{Status: 200, Header: header.Of(fields), Raw: r}, nil
			}, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			context.AfterFunc(ctx, func() { r.Close() })
			req, err := http.NewRequestWithContext(ctx, "POST", base+"/mcp/s", strings.NewReader(listTools))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req) // returns before the first byte of the body
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for _, piece := range []string{"12", "345"} {
				if _, err := io.WriteString(w, piece); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(piece))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != piece {
					t.Errorf("got %q, %v, want %q", got, err, piece)
				}
			}
			w.Close()
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("then %q, %v", rest, err)
			}
			if name == "encoded" && resp.Header.Get("Content-Encoding") != "br" {
				t.Errorf("the header is %v", resp.Header)
			}
		})
	}
}
