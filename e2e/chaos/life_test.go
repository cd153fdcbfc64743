// How an agent spends its time: requests, streams, cancellations, ends of sessions.

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/e2e/harness"
)

// live has the agent do one thing after another until its context ends: a request of some kind to some upstream, then a
// moment's rest. A stream goes on beside the others.
func (a *chaosAgent) live(ctx context.Context) {
	var streams sync.WaitGroup
	defer streams.Wait()
	streaming := make(chan struct{}, 1)
	for ctx.Err() == nil {
		u := a.run.upstreams[a.rand.IntN(len(a.run.upstreams))]
		switch {
		case u.kind == "plain":
			a.array(ctx, u)
		case !a.ready(ctx, u):
		case a.rand.IntN(12) == 0:
			a.listen(ctx, u, streaming, &streams)
		default:
			a.step(ctx, u)
		}
		a.rest(ctx, time.Duration(50+a.rand.IntN(200))*time.Millisecond)
	}
}

// rest waits, or until the context ends.
func (a *chaosAgent) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// step does one of the things that agents do.
func (a *chaosAgent) step(ctx context.Context, u *chaosUpstream) {
	switch n := a.rand.IntN(24); {
	case n >= 22:
		a.loose(ctx, u)
	case n >= 20:
		a.opaque(ctx, u)
	case n < 5:
		a.list(ctx, u)
	case n < 10:
		a.read(ctx, u)
	case n < 15:
		a.work(ctx, u, time.Duration(a.rand.IntN(20))*time.Millisecond, nil)
	case n < 17:
		a.leave(ctx, u)
	case n < 18 && u.kind == "sessions":
		a.cancel(ctx, u)
	case n < 19 && u.kind == "sessions":
		a.end(ctx, u)
	default:
		a.array(ctx, u)
	}
}

// leave begins a call and hangs up before it may have ended.
func (a *chaosAgent) leave(ctx context.Context, u *chaosUpstream) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.rand.IntN(100))*time.Millisecond)
	defer cancel()
	a.work(ctx, u, 50*time.Millisecond, nil)
}

// cancel takes a call back while it runs, as 2025-11-25 does it.
func (a *chaosAgent) cancel(ctx context.Context, u *chaosUpstream) {
	after, fields := time.Duration(a.rand.IntN(50))*time.Millisecond, a.legacyFields(u, "")
	a.work(ctx, u, 50*time.Millisecond, func(id string) {
		a.rest(ctx, after)
		a.notify(ctx, u, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id), fields)
	})
}

// end ends the session.
func (a *chaosAgent) end(ctx context.Context, u *chaosUpstream) {
	a.sendOneWay(ctx, u, "DELETE of "+a.name, http.MethodDelete, "", a.legacyFields(u, ""))
	delete(a.opens, u.name)
}

// listen holds a stream for a moment, if the agent holds none.
func (a *chaosAgent) listen(ctx context.Context, u *chaosUpstream, streaming chan struct{}, streams *sync.WaitGroup) {
	verb, id, body, fields := http.MethodGet, "", "", a.legacyFields(u, "")
	switch u.kind {
	case "modern":
		id = a.id()
		verb = http.MethodPost
		body, fields = harness.ModernRequest(id, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
	case "stateless":
		return
	}
	select {
	case streaming <- struct{}{}:
	default:
		return
	}
	fields = append(fields, harness.Bearer(a.who))
	held := time.Duration(200+a.rand.IntN(1500)) * time.Millisecond
	streams.Go(func() {
		defer func() { <-streaming }()
		begun := time.Now()
		v := a.hold(ctx, u, held, verb, body, id, fields)
		a.run.note(u, "stream of "+a.name, v, max(time.Since(begun)-held, 0))
	})
}

// hold reads a stream until it ends or the time is over, and judges what came.
func (a *chaosAgent) hold(ctx context.Context, u *chaosUpstream, held time.Duration, verb, body, id string, fields []string) callResult {
	ctx, cancel := context.WithTimeout(ctx, held)
	defer cancel()
	res, err := a.open(ctx, verb, "/mcp/"+u.name, body, fields)
	if err != nil && ctx.Err() != nil {
		return callResult{label: "stream, no head yet"}
	}
	if err != nil {
		return faulted("no answer: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == 503, res.StatusCode == 404 && u.kind == "sessions":
		return callResult{label: fmt.Sprint("stream, HTTP ", res.StatusCode)}
	case res.StatusCode != http.StatusOK:
		return faulted("a stream with HTTP %d", res.StatusCode)
	}
	events := 0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			if json.Valid(lines.Bytes()) && len(lines.Bytes()) > 0 { // an error as JSON, for a listen that was refused
				data = lines.Bytes()
			} else {
				continue
			}
		}
		if !isNotification(data) && id != "" {
			if v := u.judgeAnswer(data, id, a.who, nil); v.fault != nil || v.code == 0 {
				return faulted("at the end of a stream: %w: %.300s", v.fault, data)
			}
			return callResult{label: "stream, broken"}
		}
		if fault := u.misdelivered(data, id, a.who); fault != "" {
			return faulted("%s: %.300s", fault, data)
		}
		events++
	}
	switch {
	case lines.Err() != nil && ctx.Err() == nil:
		return faulted("a stream broke after %d events: %w", events, lines.Err())
	case ctx.Err() == nil && id != "":
		return faulted("a listen stream ended after %d events without a word", events)
	case events == 0:
		return callResult{label: "stream, quiet"}
	}
	return callResult{label: "stream"}
}

// misdelivered says what is wrong with an event of a stream that is not for who listens; "" where it is.
func (u *chaosUpstream) misdelivered(data []byte, id, who string) string {
	var event struct {
		Params struct {
			Data string
			Meta struct {
				ID   json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
				Seal string
			} `json:"_meta"`
		}
	}
	err := json.Unmarshal(data, &event)
	switch p := event.Params; {
	case err != nil:
		return err.Error()
	case id == "" && p.Data != u.seal("notice", who), id != "" && p.Meta.Seal != u.seal("notice", who):
		return "an event for somebody else"
	case id != "" && string(p.Meta.ID) != id:
		return "an event of another subscription than " + id
	}
	return ""
}
