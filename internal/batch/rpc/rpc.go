// Package rpc answers a client's batch (JSON-RPC 2.0, section 6): an array of requests and notifications, or one of them, of
// which each is a call by itself.
//
// It promises:
//   - answers in the order asked, each under the id's own bytes; equal ids are kept apart, since to the server each request
//     has an id of the daemon's own (those of `protocol: jsonrpc` go as they are);
//   - what fails, fails one element: a refusal, a panic, an answer that is none;
//   - the elements begin in order, Concurrency x MaxBatch of them at once; the others wait here and in no queue behind;
//   - a caller need not know MCP's envelope: `_meta`, `Mcp-*` headers and a session are added where they are missing.
//
// It leaves to others: which era a server speaks (internal/era), and all that may be done with one call.
package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/mcp"
)

// Options are those of Arrays. Next is required, Partition too unless Plain; another zero field stands for its default.
type Options struct {
	Upstream    string                   // the upstream's configured name: a label, and in error data
	Version     string                   // the daemon's own, as a server gets it in clientInfo
	Next        mcp.Caller               // all that a call passes
	Plain       bool                     // `protocol: jsonrpc`: the elements have no MCP in them
	Concurrency int                      // elements of one array under way, 32
	MaxBatch    int                      // the upstream's `batch.max`, by which Concurrency is multiplied; 1
	Timeout     time.Duration            // of one array, 10 min
	Answers     int64                    // bytes of the answers of one array together, 64 MiB
	Partition   func(*mcp.Call) [32]byte // whose request that is: sessions of the daemon's own are not shared beyond it
	Base        context.Context          // the daemon's: its end ends what is asked for all callers; nil: no end
	Buffers     *mcp.BufferPool          // for answers; nil: none is used again
	Metrics     *Metrics                 // nil: not counted
	Log         *slog.Logger             // nil: silent
}

// Arrays answers the arrays for one upstream. It is a mcp.Caller for LaneArray, safe for concurrent use.
type Arrays struct {
	opts    Options
	meters  meters
	ids     *mcp.IDs
	info    []byte          // clientInfo, as JSON
	base    context.Context // ends with Base and at Close
	stop    context.CancelFunc
	era     *era.Finder
	running sync.WaitGroup // arrays, and what is asked for all callers

	mu       sync.Mutex // guards the following, and that nothing begins once it drains
	draining bool
	sessions map[[32]byte]*ownSession  // by partition: those that are open, or being opened
	tools    map[[32]byte]*toolHeaders // by partition
}

// New returns Arrays for one upstream. It panics without a Next, and without a Partition unless Plain.
func New(o Options) *Arrays {
	if o.Next == nil || o.Partition == nil && !o.Plain {
		panic("rpc: no Next or no Partition (this is a bug)")
	}
	o.Version = cmp.Or(o.Version, "0")
	o.Concurrency = cmp.Or(o.Concurrency, 32)
	o.MaxBatch = cmp.Or(o.MaxBatch, 1)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Minute)
	o.Answers = cmp.Or(o.Answers, 64<<20)
	o.Base = cmp.Or(o.Base, context.Background())
	o.Metrics = cmp.Or(o.Metrics, NewMetrics(nil))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	a := &Arrays{
		opts: o, meters: o.Metrics.of(o.Upstream), ids: mcp.NewIDs(),
		sessions: map[[32]byte]*ownSession{}, tools: map[[32]byte]*toolHeaders{},
	}
	a.info = append(append([]byte(`{"name":"fluentd-perf","version":`), quoted(o.Version)...), '}')
	a.base, a.stop = context.WithCancel(o.Base)
	a.era = era.New(era.Options{
		Upstream: o.Upstream, Next: o.Next, Client: a.info, IDs: a.ids, Base: a.base, Go: a.running.Go, Log: o.Log,
	})
	return a
}

// Call answers an array: 200 with the answers as JSON, one for each request; 202 where there are notifications only; 400
// with one error under a null id where the body is not JSON or no array of 1 to 1,000 elements. One request or notification
// instead of an array is answered as one, and refused with a 400 where it is none.
//
// The call's Header is the caller's. Its Message is not looked at. The *mcp.Failure is of an array that begins while the
// daemon stops, of a caller that left, or of notifications of which the server took none.
func (a *Arrays) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	a.mu.Lock()
	if a.draining {
		a.mu.Unlock()
		return nil, mcp.Draining()
	}
	a.running.Add(1)
	a.mu.Unlock()
	defer a.running.Done()
	r := a.read(c)
	ctx, cancel := context.WithTimeoutCause(ctx, a.opts.Timeout, &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonRPCTimeout, Sent: mcp.SentUnknown,
		Message: "the array took longer than rpc.timeout",
	})
	defer cancel()
	r.run(ctx)
	if f := r.overall(ctx); f != nil {
		r.drop()
		return nil, f
	}
	return r.result(), nil
}

// Close lets no array begin any more, waits for those under way, whose contexts the caller has ended if that is to be soon,
// and ends the sessions of the daemon's own with a DELETE each, five seconds at most.
func (a *Arrays) Close() {
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
	a.stop()
	a.running.Wait()
	// Nothing but the DELETEs runs any more, which the daemon's end does not end.
	a.base = context.WithoutCancel(a.opts.Base)
	a.mu.Lock()
	for _, s := range a.sessions {
		a.removeLocked(s)
	}
	a.mu.Unlock()
	a.running.Wait()
}

// forAll asks the server what all wait for, within a time and until the daemon stops. A panic in it is everybody's failure.
func (a *Arrays) forAll(what string, within time.Duration, ask func(context.Context) *mcp.Failure) (f *mcp.Failure) {
	defer func() {
		if p := recover(); p != nil {
			f = a.panicked(what, p)
		}
	}()
	ctx, cancel := context.WithTimeout(a.base, within)
	defer cancel()
	return ask(ctx)
}

// panicked is the failure of what panicked.
func (a *Arrays) panicked(what string, p any) *mcp.Failure {
	a.opts.Log.Error("bug: "+what+" panicked", "upstream", a.opts.Upstream, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return mcp.InternalFailure(fmt.Errorf("panic: %v", p))
}

// quoted returns a text as a JSON string.
func quoted(s string) []byte {
	token, err := json.Marshal(s)
	if err != nil {
		panic("rpc: a string could not be encoded (this is a bug): " + err.Error())
	}
	return token
}
