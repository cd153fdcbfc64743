package era_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rig is a Finder over a server that answers server/discover by discover, and initialize by initialize.
type rig struct {
	*era.Finder
	discover    func(ctx context.Context, c *mcp.Call) (*mcp.Result, error)
	initialize  *mcp.Failure
	discovered  atomic.Int64
	initialized atomic.Int64
	running     sync.WaitGroup
	stop        context.CancelCauseFunc
}

func newRig(discover func(ctx context.Context, c *mcp.Call) (*mcp.Result, error)) *rig {
	r := &rig{discover: discover}
	base, stop := context.WithCancelCause(context.Background())
	r.stop = stop
	r.Finder = era.New(era.Options{
		Upstream: "test", Client: []byte(`{"name":"me","version":"1"}`), IDs: mcp.NewIDs(), Base: base, Go: r.running.Go,
		Log: slog.New(slog.DiscardHandler),
		Next: mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			r.discovered.Add(1)
			return r.discover(ctx, c)
		}),
	})
	return r
}

func (r *rig) principal(partition byte) era.Principal {
	return era.Principal{
		Partition: [32]byte{partition}, Header: header.Of(http.Header{"Authorization": {fmt.Sprint("user ", partition)}}), Query: "q", Conn: "c",
		Initialize: func(context.Context) *mcp.Failure {
			r.initialized.Add(1)
			return r.initialize
		},
	}
}

// answer is a server's answer with that status; ID in the body is the id asked with.
func answer(status int, body string) func(context.Context, *mcp.Call) (*mcp.Result, error) {
	return func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: status, Header: header.Of(http.Header{"Retry-After": {"7"}}), Body: []byte(strings.ReplaceAll(body, "ID", string(c.ID())))}, nil
	}
}

func rpcError(code int, rest string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":ID,"error":{"code":%d,"message":"m"%s}}`, code, rest)
}

// events is a stream of messages.
type events struct {
	c    *mcp.Call
	data []string
}

func (e *events) Next() (mcp.Event, error) {
	if len(e.data) == 0 {
		return mcp.Event{}, io.EOF
	}
	ev := mcp.Event{Data: []byte(strings.ReplaceAll(e.data[0], "ID", string(e.c.ID())))}
	e.data = e.data[1:]
	_ = mcp.Scan(ev.Data, &ev.Message)
	ev.Answer = ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError
	return ev, nil
}

func (e *events) Close() error { return nil }

func stream(data ...string) func(context.Context, *mcp.Call) (*mcp.Result, error) {
	return func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 200, Events: &events{c, data}}, nil
	}
}

func fails(f mcp.Failure) func(context.Context, *mcp.Call) (*mcp.Result, error) {
	return func(context.Context, *mcp.Call) (*mcp.Result, error) { return nil, &f }
}

const discovered = `{"jsonrpc":"2.0","id":ID,"result":{"supportedVersions":["2026-07-28"]}}`

// TestFind holds what each answer to server/discover means.
func TestFind(t *testing.T) {
	for name, x := range map[string]struct {
		discover func(context.Context, *mcp.Call) (*mcp.Result, error)
		want     string // "modern", "legacy" after initialize, or the failure's reason
	}{
		"result":                     {answer(200, discovered), "modern"},
		"result on a stream":         {stream(`{"jsonrpc":"2.0","method":"notifications/message"}`, discovered), "modern"},
		"result without versions":    {answer(200, `{"jsonrpc":"2.0","id":ID,"result":{}}`), "modern"},
		"a later version":            {answer(200, strings.Replace(discovered, "2026-07-28", "2027-01-01", 1)), "modern"},
		"legacy versions only":       {answer(200, strings.Replace(discovered, "2026-07-28", "2025-11-25", 1)), "legacy"},
		"another's answer":           {answer(200, strings.Replace(discovered, "ID", "1", 1)), "legacy"},
		"a loose answer":             {answer(200, strings.Replace(discovered, `"]`, `","\ud83d"]`, 1)), "legacy"},
		"unsupported, modern":        {answer(400, rpcError(-32022, `,"data":{"supported":["2027-01-01"]}`)), "modern"},
		"unsupported, legacy":        {answer(400, rpcError(-32022, `,"data":{"supported":["2025-06-18"]}`)), "legacy"},
		"unsupported":                {answer(400, rpcError(-32022, "")), "legacy"},
		"header mismatch":            {answer(400, rpcError(-32020, "")), "modern"},
		"missing capability":         {answer(400, rpcError(-32021, "")), "modern"},
		"unknown method":             {answer(200, rpcError(-32601, "")), "legacy"},
		"404":                        {answer(404, "not found"), "legacy"},
		"405":                        {answer(405, ""), "legacy"},
		"500":                        {answer(500, "oops"), "legacy"},
		"a page":                     {fails(mcp.Failure{Code: 1502, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}), "legacy"},
		"401":                        {answer(401, "who?"), "bad_answer"},
		"429":                        {answer(429, "later"), "bad_answer"},
		"503":                        {answer(503, "later"), "bad_answer"},
		"not reached":                {fails(mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}), "connect"},
		"cancelled by nobody":        {fails(mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes}), "call_timeout"},
		"a stream without an answer": {stream(), "broke_off"},
		"a panic":                    {func(context.Context, *mcp.Call) (*mcp.Result, error) { panic("planted") }, "broke_off"},
	} {
		r := newRig(x.discover)
		for range 2 {
			known, f := r.Find(t.Context(), r.principal(1))
			got := ""
			if known != nil {
				got = known.Era.String()
			} else if got = string(f.Reason); f.Sent != mcp.SentNo || f.Code == 0 {
				t.Errorf("%s: %+v", name, f)
			}
			if got != x.want {
				t.Errorf("%s: %s, want %s", name, got, x.want)
			}
		}
		wantCalls, wantOpened := int64(1), int64(0)
		switch x.want {
		case "legacy":
			wantOpened = 1
		case "modern":
		default: // a failure is not remembered
			wantCalls = 2
		}
		if d, i := r.discovered.Load(), r.initialized.Load(); d != wantCalls || i != wantOpened {
			t.Errorf("%s: %d server/discover and %d initialize, want %d and %d", name, d, i, wantCalls, wantOpened)
		}
	}
}

// TestFindRequest holds how server/discover goes out, and what a refusal hands on.
func TestFindRequest(t *testing.T) {
	r := newRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		var m mcp.Message
		if err := mcp.Scan(c.Body, &m); err != nil || m != c.Message || !c.Regular() || !c.Whole {
			t.Errorf("%s: %v", c.Body, err)
		}
		if !mcp.TextIs(m.ProtocolVersion.Of(c.Body), mcp.Version20260728) || !m.ClientInfo.Present() || !m.ClientCapabilities.Present() {
			t.Errorf("no `_meta` in %s", c.Body)
		}
		want := header.Of(http.Header{"Authorization": {"user 3"}, "Mcp-Method": {"server/discover"}, "Mcp-Protocol-Version": {mcp.Version20260728}})
		if !slices.Equal(slices.SortedFunc(slices.Values(c.Header), func(a, b header.Field) int { return strings.Compare(a.Name, b.Name) }), want) || c.Query != "q" || c.Conn != "c" || c.Upstream != "test" || c.Era != mcp.EraModern {
			t.Errorf("it went out as %+v", c)
		}
		return answer(429, "later")(t.Context(), c)
	})
	by := r.principal(3)
	if _, f := r.Find(t.Context(), by); f.RetryAfter != 7*time.Second {
		t.Errorf("%+v", f)
	}
	if len(by.Header) != 1 {
		t.Errorf("the caller's header is %v", by.Header)
	}
}

// TestFindTogether asks once for each partition, for all who wait; who leaves does not end it for others.
func TestFindTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			<-time.After(time.Second)
			return answer(200, discovered)(ctx, c)
		})
		left, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		for i := range 40 {
			go func() {
				known, f := r.Find(t.Context(), r.principal(byte(i%2)))
				if f != nil || known.Era != mcp.EraModern {
					t.Error(known, f)
				}
			}()
		}
		if known, f := r.Find(left, r.principal(0)); known != nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo {
			t.Error(known, f)
		}
		r.running.Wait()
		synctest.Wait()
		if n := r.discovered.Load(); n != 2 {
			t.Errorf("%d server/discover for two partitions, want 2", n)
		}
	})
}

// TestFindStops: the end of Base ends a probe, and so does a minute.
func TestFindStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(ctx context.Context, _ *mcp.Call) (*mcp.Result, error) {
			<-ctx.Done()
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes}
		})
		start := time.Now()
		if _, f := r.Find(t.Context(), r.principal(1)); f.Code != mcp.CodeDeadlinePassed || f.Reason != mcp.ReasonCallTimeout || time.Since(start) != time.Minute {
			t.Errorf("%+v after %v", f, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { r.stop(mcp.Draining()) })
		if _, f := r.Find(t.Context(), r.principal(1)); f.Reason != mcp.ReasonDraining {
			t.Errorf("%+v", f)
		}
	})
}

// TestCheck holds what an answer to a request says against an era that was found out.
func TestCheck(t *testing.T) {
	mismatch := answer(400, rpcError(-32020, ""))
	proved, unproved, legacy := answer(200, discovered), mismatch, answer(404, "")
	for _, x := range []struct {
		name       string
		found      func(context.Context, *mcp.Call) (*mcp.Result, error)
		status     int
		body       string
		repeatable bool
		again      bool
		then       string // the era that is known afterwards, "" for none
	}{
		{"a result", proved, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`, true, false, "modern"},
		{"unsupported", proved, 400, rpcError(-32022, ""), false, true, "legacy"},
		{"unsupported, of another server", proved, 200, rpcError(-32022, ""), false, false, ""},
		{"unsupported, may run twice", proved, 200, rpcError(-32022, ""), true, true, "legacy"},
		{"404", proved, 404, "", false, false, ""},
		{"404, unproved", unproved, 404, "", false, true, "legacy"},
		{"404 with an answer", unproved, 404, rpcError(-32001, ""), false, false, "modern"},
		{"words of a session", unproved, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"payment session closed"}}`, false, false, ""},
		{"words of a session, may run twice", unproved, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no Session"}}`, true, true, "legacy"},
		{"words of a transport", unproved, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`, false, true, "legacy"},
		{"words of a transport, proved", proved, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`, false, false, ""},
		{"an error of the tool", unproved, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no such file"}}`, true, false, "modern"},
		{"legacy, a result", legacy, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`, true, false, "legacy"},
		{"legacy, mismatch", legacy, 400, rpcError(-32020, ""), false, true, ""},
		{"legacy, mismatch of another server", legacy, 200, rpcError(-32020, ""), false, false, "legacy"},
		{"legacy, 404", legacy, 404, "", true, false, "legacy"},
	} {
		r := newRig(x.found)
		known, f := r.Find(t.Context(), r.principal(1))
		if f != nil {
			t.Fatal(x.name, f)
		}
		p := era.Reply{Status: x.status, Repeatable: x.repeatable}
		if x.body != "" {
			p.Body = []byte(strings.ReplaceAll(x.body, "ID", "1"))
			if err := mcp.Scan(p.Body, &p.Message); err != nil {
				t.Fatal(x.name, err)
			}
		}
		if again := r.Check(known, &p); again != x.again {
			t.Errorf("%s: again %v, want %v", x.name, again, x.again)
		}
		before := r.discovered.Load()
		now, f := r.Find(t.Context(), r.principal(1))
		switch asked := r.discovered.Load() > before; {
		case f != nil:
			t.Error(x.name, f)
		case asked != (x.then == ""):
			t.Errorf("%s: asked again %v, want %v", x.name, asked, x.then == "")
		case !asked && now.Era.String() != x.then:
			t.Errorf("%s: known as %s, want %s", x.name, now.Era, x.then)
		}
	}
}

// TestForget forgets what was wrong, and not what has been found out since.
func TestForget(t *testing.T) {
	r := newRig(answer(200, discovered))
	first, _ := r.Find(t.Context(), r.principal(1))
	r.Forget(first)
	second, _ := r.Find(t.Context(), r.principal(1))
	r.Forget(first)
	third, _ := r.Find(t.Context(), r.principal(1))
	if n := r.discovered.Load(); n != 2 || second != third {
		t.Errorf("%d server/discover, want 2", n)
	}
}
