package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const (
	healTime    = 30 * time.Second // for all of a recovery
	abandonTime = 2 * time.Second  // for the end of a session that nobody will use
	maxParallel = 8                // how many requests of the agent's are repeated at once
)

// recoveryError is why a recovery failed.
type recoveryError struct {
	result  result
	failure *mcp.Failure // of a step that the server did not answer; nil otherwise
	refusal *mcp.Result  // of a step that the server refused with 401 or 403; nil otherwise
}

func (f *recoveryError) Error() string { return string(f.result) }

// unsent reports whether the server was not asked, or did not let the recovery in.
func (f *recoveryError) unsent() bool {
	return f.refusal != nil || f.failure != nil && f.failure.Sent == mcp.SentNo
}

// answer returns what one agent gets for a loss that was not recovered: a refusal tells it to sign in, or why it may not.
func (f *recoveryError) answer(lost *mcp.Result) *mcp.Result {
	if f.refusal == nil {
		return lost
	}
	return &mcp.Result{Status: f.refusal.Status, Header: f.refusal.Header.Clone(), Body: f.refusal.Body}
}

// run says to the server what the agent has said, and ends what came of it if the server did not take all of that.
func (r *recovery) run() {
	ctx, cancel := context.WithTimeout(r.stage.base, healTime)
	defer cancel()
	failed, _ := r.replay(ctx).(*recoveryError)
	if r.finish(failed); r.failed != nil && r.id != "" {
		r.abandon(ctx)
	}
}

// replay sends initialize, initialized, and the log level and the subscriptions that the server accepted last, some of these at
// once. Its error, as that of each step, is a *recoveryError.
func (r *recovery) replay(ctx context.Context) error {
	if err := r.initialize(ctx); err != nil {
		return err
	}
	initialized := []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	res, err := r.send(ctx, ownCall(r.trigger, mcp.LaneNotification, initialized, r.id))
	switch {
	case err != nil:
		return err
	case !isGood(res.Status):
		return refused(res)
	}
	r.session.mu.Lock()
	level, uris := r.session.level, slices.Clone(r.session.uris)
	r.session.mu.Unlock()
	if level != "" { // before what may be logged of the rest
		if err := r.repeat(ctx, mcp.MethodLoggingSetLevel, `{"level":`+level+`}`); err != nil {
			return err
		}
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(maxParallel)
	for _, uri := range uris {
		if ctx.Err() != nil {
			break // one has failed
		}
		all.Go(func() error { return r.repeat(ctx, mcp.MethodResourcesSubscribe, `{"uri":`+string(uri)+`}`) })
	}
	return all.Wait()
}

func (r *recovery) initialize(ctx context.Context) error {
	o := r.session.opening
	c := ownCall(r.trigger, mcp.LaneRequest, o.body, "")
	c.Header.Del("Mcp-Protocol-Version")
	if c.Version = o.version; o.version != "" {
		c.Header.Add("Mcp-Protocol-Version", o.version)
	}
	res, err := r.send(ctx, c)
	if res != nil && isGood(res.Status) {
		r.id = strings.Clone(sessionID(res.Header)) // there is a session, be its answer unreadable
	}
	switch {
	case err != nil:
		return err
	case !isGood(res.Status) || res.Message.Kind != mcp.KindResult:
		return refused(res)
	}
	if server, ok := factsOf(res.Scanned(), &res.Message); !ok || server != o.server || r.id == "" {
		return &recoveryError{result: resultChanged}
	}
	r.stage.sessions.takeID(r.session, r.id)
	return nil
}

// repeat sends again what the agent has asked for, and wants an answer, whichever: what the server refuses, it refuses, as a
// resource may be gone. Only where it gives no answer, or does not know the session that it has just opened, is there no
// recovery.
func (r *recovery) repeat(ctx context.Context, m mcp.Method, params string) error {
	c := r.stage.ownRequest(r.trigger, m, params, r.id)
	res, err := r.send(ctx, c)
	if err == nil && mcp.LossOf(c, res) == mcp.LossSure {
		return &recoveryError{result: resultRefused}
	}
	return err
}

// send sends one call of the recovery and returns its answer, which holds nothing. It fails where the server gives no answer, or
// says that it may take later what it does not take now; the answer's head is there even so, if it came.
func (r *recovery) send(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	in, err := r.stage.opts.Next.Call(ctx, c)
	if err != nil {
		return nil, r.unanswered(err)
	}
	defer r.stage.discard(in)
	res := &mcp.Result{Status: in.Status, Header: in.Header.Clone(), Message: in.Message}
	switch {
	case in.Status >= http.StatusInternalServerError || in.Status == http.StatusTooManyRequests:
		return res, r.unanswered(errBusy)
	case in.Events != nil && c.Lane == mcp.LaneRequest:
		data, failed := mcp.ReadAnswer(in.Events, c.ID(), func(*mcp.Event) *mcp.Failure { return nil })
		if failed != nil {
			return res, r.unanswered(failed)
		}
		res.Body = bytes.Clone(data)
		_ = mcp.Scan(res.Body, &res.Message) // what cannot be read is an answer, too: of KindInvalid
	case in.Raw != nil:
		res.Body = refusalIn(in.Raw, &res.Header)
	default:
		res.Body, res.Data = bytes.Clone(in.Body), bytes.Clone(in.Data)
	}
	if isGood(in.Status) && in.Events == nil && c.Lane == mcp.LaneRequest && !in.Message.Kind.IsAnswer() {
		return res, r.unanswered(errNoAnswer)
	}
	return res, nil
}

var (
	errBusy     = errors.New("the server did not take a step of the recovery (429 or 5xx)")
	errNoAnswer = errors.New("the server's answer carries no response")
)

// unanswered says what a step without an answer means.
func (r *recovery) unanswered(err error) *recoveryError {
	if r.stage.base.Err() != nil {
		return &recoveryError{result: resultEnded}
	}
	var f *mcp.Failure
	if !errors.As(err, &f) || f.Reason == mcp.ReasonCanceled {
		f = &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown, RetryAfter: time.Second,
			Message: "the server has lost the session and could not be asked for another", Cause: err,
		}
	}
	return &recoveryError{result: resultUnreachable, failure: f}
}

// maxRefusal is how much of a refusal is passed on, in bytes.
const maxRefusal = 64 << 10

// refusalIn reads a body that passes as it comes. One that cannot be passed on whole is left out.
func refusalIn(raw io.Reader, h *header.List) []byte {
	body, err := io.ReadAll(io.LimitReader(raw, maxRefusal+1))
	if err == nil && len(body) <= maxRefusal {
		return body
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
		h.Del(name)
	}
	return nil
}

// refused is the failure of a step by an error of the server's. What comes with 401 or 403 is kept for the agent.
func refused(res *mcp.Result) *recoveryError {
	if res.Status != http.StatusUnauthorized && res.Status != http.StatusForbidden {
		return &recoveryError{result: resultRefused}
	}
	res.Header.Del(sessionHeader)
	return &recoveryError{result: resultRefused, refusal: res}
}

// abandon ends a session on the server that came of a recovery that failed. Whether the server gets to know is not the
// agent's concern.
func (r *recovery) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	res, err := r.stage.opts.Next.Call(ctx, ownCall(r.trigger, mcp.LaneEnd, nil, r.id))
	if err != nil {
		r.stage.opts.Log.Debug("ending an abandoned session", "upstream", r.stage.opts.Upstream, "error", err)
		return
	}
	r.stage.discard(res)
}
