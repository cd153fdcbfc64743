package session

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	healTime    = 30 * time.Second // for all of a recovery
	abandonTime = 2 * time.Second  // for the end of a session that nobody will use
	replayers   = 8                // how many subscriptions are asked for at once
)

// setback is why a recovery failed.
type setback struct {
	result  result
	failure *mcp.Failure // of a step that the server did not answer; nil otherwise
	refusal *mcp.Result  // of a step that the server refused with 401 or 403; nil otherwise
}

// unsent reports whether the server was not asked, or did not let the recovery in.
func (f *setback) unsent() bool {
	return f.refusal != nil || f.failure != nil && f.failure.Sent == mcp.SentNo
}

// answer returns what one agent gets for a loss that was not recovered: a refusal tells it to sign in, or why it may not.
func (f *setback) answer(lost *mcp.Result) *mcp.Result {
	if f.refusal == nil {
		return lost
	}
	return &mcp.Result{Status: f.refusal.Status, Header: f.refusal.Header.Clone(), Body: f.refusal.Body}
}

// run says to the server what the agent has said: initialize, initialized, the log level, the subscriptions.
func (r *recovery) run() {
	ctx, cancel := context.WithTimeout(r.stage.base, healTime)
	defer cancel()
	failed := r.initialize(ctx)
	for _, step := range []func(context.Context) *setback{r.initialized, r.setLevel, r.subscribe} {
		if failed == nil {
			failed = step(ctx)
		}
	}
	if r.finish(failed); r.failed != nil {
		r.abandon(ctx)
	}
}

// step sends one call of the recovery; read looks at its answer, unless the server may take later what it does not take now.
func (r *recovery) step(ctx context.Context, c *mcp.Call, read func(*mcp.Result) *setback) *setback {
	res, err := r.stage.opts.Next.Call(ctx, c)
	if err != nil {
		return r.unanswered(err)
	}
	defer r.stage.discard(res)
	if res.Status >= http.StatusInternalServerError || res.Status == http.StatusTooManyRequests {
		return r.unanswered(errBusy)
	}
	return read(res)
}

var (
	errBusy     = errors.New("the server did not take a step of the recovery (429 or 5xx)")
	errNoAnswer = errors.New("the server's answer carries no response")
)

// unanswered says what a step without an answer means.
func (r *recovery) unanswered(err error) *setback {
	if r.stage.base.Err() != nil {
		return &setback{result: resultEnded}
	}
	var f *mcp.Failure
	if !errors.As(err, &f) || f.Reason == mcp.ReasonCanceled {
		f = &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown, RetryAfter: time.Second,
			Message: "the server has lost the session and could not be asked for another", Cause: err,
		}
	}
	return &setback{result: resultUnreachable, failure: f}
}

func (r *recovery) initialize(ctx context.Context) *setback {
	o := r.session.opening
	c := ownCall(r.trigger, mcp.LaneRequest, o.body, "")
	delete(c.Header, "Mcp-Protocol-Version")
	if c.Version = o.version; o.version != "" {
		c.Header["Mcp-Protocol-Version"] = []string{o.version}
	}
	return r.step(ctx, c, func(res *mcp.Result) *setback {
		if !isGood(res.Status) {
			return refused(res)
		}
		r.id = strings.Clone(sessionID(res.Header)) // the header ends with the answer
		body, m, err := answerOf(res)
		if err != nil {
			return r.unanswered(err)
		}
		if m.Kind != mcp.KindResult {
			return refused(res)
		}
		if server, ok := factsOf(body, m); !ok || server != o.server || r.id == "" {
			return &setback{result: resultChanged}
		}
		r.stage.sessions.take(r.session, r.id)
		return nil
	})
}

func (r *recovery) initialized(ctx context.Context) *setback {
	c := ownCall(r.trigger, mcp.LaneNotification, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), r.id)
	return r.step(ctx, c, func(res *mcp.Result) *setback {
		if !isGood(res.Status) {
			return refused(res)
		}
		return nil
	})
}

func (r *recovery) setLevel(ctx context.Context) *setback {
	r.session.mu.Lock()
	level := r.session.level
	r.session.mu.Unlock()
	if level == "" {
		return nil
	}
	return r.repeat(ctx, mcp.MethodLoggingSetLevel, `{"level":`+level+`}`)
}

// subscribe subscribes to all of the resources, some at once, until one fails.
func (r *recovery) subscribe(ctx context.Context) *setback {
	r.session.mu.Lock()
	uris := slices.Clone(r.session.uris)
	r.session.mu.Unlock()
	var wg sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[setback]
	for range min(replayers, len(uris)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(uris)) && failed.Load() == nil; i = next.Add(1) - 1 {
				if f := r.repeat(ctx, mcp.MethodResourcesSubscribe, `{"uri":`+string(uris[i])+`}`); f != nil {
					failed.Store(f)
				}
			}
		})
	}
	wg.Wait()
	return failed.Load()
}

// repeat sends again what the agent has asked for, and wants an answer, whichever: what the server refuses, it refuses, as a
// resource may be gone. Only where it gives no answer, or does not know the session that it has just opened, is there no
// recovery.
func (r *recovery) repeat(ctx context.Context, m mcp.Method, params string) *setback {
	c := ownRequest(r.trigger, m, params, r.id)
	return r.step(ctx, c, func(res *mcp.Result) *setback {
		switch {
		case mcp.LossOf(c, res) == mcp.LossSure:
			return &setback{result: resultRefused}
		case !isGood(res.Status):
			return nil
		}
		if _, _, err := answerOf(res); err != nil {
			return r.unanswered(err)
		}
		return nil
	})
}

// answerOf returns the answer to a request, whole or at the end of a stream, and its scan. Both are valid until the result
// is closed.
func answerOf(res *mcp.Result) ([]byte, *mcp.Message, error) {
	if res.Events == nil {
		if !res.Message.Kind.IsAnswer() {
			return nil, nil, errNoAnswer
		}
		return res.Said(), &res.Message, nil
	}
	for {
		ev, err := res.Events.Next()
		if err != nil {
			return nil, nil, err
		}
		if ev.Answer {
			return ev.Data, &ev.Message, nil
		}
	}
}

// maxRefusal is how much of a refusal is passed on, in bytes.
const maxRefusal = 64 << 10

// refused is the setback of an error of the server's. What comes with 401 or 403 is kept for the agent; a body that cannot be
// passed on whole is left out.
func refused(res *mcp.Result) *setback {
	if res.Status != http.StatusUnauthorized && res.Status != http.StatusForbidden {
		return &setback{result: resultRefused}
	}
	header, body := res.Header.Clone(), slices.Clone(res.Body)
	header.Del(sessionHeader)
	if res.Raw != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(res.Raw, maxRefusal+1))
		if err != nil || len(body) > maxRefusal {
			body = nil
			for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
				header.Del(name)
			}
		}
	}
	return &setback{result: resultRefused, refusal: &mcp.Result{Status: res.Status, Header: header, Body: body}}
}

// abandon ends a session on the server that came of a recovery that failed. Whether the server gets to know is not the
// agent's concern.
func (r *recovery) abandon(ctx context.Context) {
	if r.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	res, err := r.stage.opts.Next.Call(ctx, ownCall(r.trigger, mcp.LaneEnd, nil, r.id))
	if err != nil {
		r.stage.opts.Log.Debug("ending an abandoned session", "upstream", r.stage.opts.Upstream, "error", err)
		return
	}
	r.stage.discard(res)
}
