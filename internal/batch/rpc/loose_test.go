package rpc_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// looseAnswers are bodies that a client takes for an answer, and that cannot be put among others. ID stands for the call's.
var looseAnswers = map[string]string{
	"half a character":         `{"jsonrpc":"2.0","id":ID,"result":"cut \ud83d"}`,
	"not UTF-8":                "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":\"\xff\"}",
	"a byte order mark":        "\ufeff{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":1}",
	"an error of null":         `{"jsonrpc":"2.0","id":ID,"result":1,"error":null}`,
	"a result of null":         `{"jsonrpc":"2.0","id":ID,"result":null,"error":{"code":1,"message":"m"}}`,
	"an id alone":              `{"jsonrpc":"2.0","id":ID}`,
	"an id of another type":    `{"jsonrpc":"2.0","id":"ID","result":1}`,
	"another's id":             `{"jsonrpc":"2.0","id":1,"result":1}`,
	"in an array":              `[{"jsonrpc":"2.0","id":ID,"result":"\ud83d"}]`,
	"a name twice":             `{"jsonrpc":"2.0","id":ID,"id":ID,"result":1}`,
	"something after its end":  `{"jsonrpc":"2.0","id":ID,"result":1}}`,
	"a notification, and done": `{"jsonrpc":"2.0","method":"x"}`,
}

// TestArrayLooseAnswers: what cannot be taken apart is that element's error, sent, never a success, and is not asked again,
// however it comes.
func TestArrayLooseAnswers(t *testing.T) {
	for name, body := range looseAnswers {
		for how, give := range map[string]func(ctx context.Context, c *mcp.Call, body string) *mcp.Result{
			"whole": func(_ context.Context, _ *mcp.Call, body string) *mcp.Result { return heldBody(200, body) },
			"404":   func(_ context.Context, _ *mcp.Call, body string) *mcp.Result { return heldBody(404, body) },
			"raw": func(_ context.Context, _ *mcp.Call, body string) *mcp.Result {
				return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(body, 7, io.EOF, new(atomic.Int64))}
			},
			"event": func(ctx context.Context, c *mcp.Call, body string) *mcp.Result {
				return &mcp.Result{Status: 200, Events: &looseEvents{[]byte(body)}}
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				ran := 0
				r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
					if c.Method() != mcp.MethodToolsCall {
						return answerOK(c, `{}`)
					}
					ran++
					return give(ctx, c, strings.ReplaceAll(body, "ID", string(c.ID()))), nil
				}, nil)
				got := r.answers(t, t.Context(), onePay, modernHeader, modernVer)
				wantReplies(t, got, "1: error 1502 bad_answer, sent yes")
				if ran != 1 {
					t.Errorf("the tool ran %d times", ran)
				}
			})
		}
	}
}

func heldBody(status int, body string) *mcp.Result {
	return &mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
}

// looseEvents is a stream of one event, which is the call's answer whatever is in it.
type looseEvents struct{ data []byte }

func (e *looseEvents) Next() (mcp.Event, error) {
	if e.data == nil {
		return mcp.Event{}, io.EOF
	}
	ev := mcp.Event{Data: e.data, Answer: true}
	e.data = nil
	if mcp.Scan(ev.Data, &ev.Message) != nil {
		ev.Message = mcp.Message{}
	}
	return ev, nil
}

func (e *looseEvents) Close() error { return nil }

// TestArrayLooseOnSession: on a session of the daemon's own a 404 that says something about this call is no sure loss: a
// tools/call is not sent again.
func TestArrayLooseOnSession(t *testing.T) {
	const loose = `{"jsonrpc":"2.0","id":ID,"result":null,"error":{"code":-32602,"message":"no such account"}}`
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(failsAfter(s, func(c *mcp.Call) *mcp.Result {
		return heldBody(404, strings.ReplaceAll(loose, "ID", string(c.ID())))
	}), nil)
	wantReplies(t, r.answers(t, t.Context(), onePay), "1: error 1502 bad_answer, sent yes")
	if len(s.ran) != 1 {
		t.Errorf("the tool ran %d times", len(s.ran))
	}
	r.close(t)
}

// TestArrayTextPlain: of a server without MCP any body that is an answer is one, whatever it is said to be.
func TestArrayTextPlain(t *testing.T) {
	r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		res, err := answerOK(c, `"m"`)
		res.Header = header.Of(http.Header{"Content-Type": {"text/plain"}})
		return res, err
	}, func(o *rpc.Options) { o.Plain = true })
	wantReplies(t, r.answers(t, t.Context(), `[{"jsonrpc":"2.0","id":1,"method":"m"}]`), `1: "m"`)
}

// TestArrayIDs: the ids that go out are integers that every double holds, all different.
func TestArrayIDs(t *testing.T) {
	seen := map[string]bool{}
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if id := string(c.ID()); c.Message.Kind == mcp.KindRequest {
			if seen[id] || len(id) != 16 || strings.Trim(id, "0123456789") != "" || id >= "9007199254740992" {
				t.Errorf("%s goes out as %s", c.Method(), id)
			}
			seen[id] = true
		}
		return s.call(ctx, c)
	}, func(o *rpc.Options) { o.Concurrency = 1 })
	r.answers(t, t.Context(), `[{"jsonrpc":"2.0","id":"a","method":"tools/list"},{"jsonrpc":"2.0","id":"a","method":"ping"}]`)
	if len(seen) < 3 {
		t.Errorf("%d requests went out", len(seen))
	}
	r.close(t)
}
