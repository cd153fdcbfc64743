package rpc

import (
	"context"
	"encoding/json"
	"time"

	"fluentd-perf/internal/mcp"
)

// Bounds of what is known of tools.
const (
	maxToolPartitions = 256
	maxToolPages      = 100
	maxToolBytes      = 16 << 20 // of all pages together
	toolsKept         = 5 * time.Minute
	noToolsKept       = 5 * time.Second  // after a list that did not come
	toolsWait         = 15 * time.Second // for a list, while calls wait that may well do without
)

// toolHeaders knows which arguments of which tools of one list have headers.
type toolHeaders struct {
	ready chan struct{} // closed when of is there
	of    map[string]mcp.ParamHeaders
}

// toolHeaders returns what is known of the tools of the caller, and asks the server if that is nothing. It is never nil; it
// may know nothing.
func (r *run) toolHeaders(ctx context.Context, version string) *toolHeaders {
	a, key := r.a, r.partition
	a.mu.Lock()
	t := a.tools[key]
	if t == nil {
		t = &toolHeaders{ready: make(chan struct{}), of: map[string]mcp.ParamHeaders{}}
		for some := range a.tools {
			if len(a.tools) < maxToolPartitions {
				break
			}
			delete(a.tools, some)
		}
		a.tools[key] = t
		a.running.Go(func() { r.listTools(t, version) }) // beside the array, which runs
	}
	a.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		return &toolHeaders{} // the call fails of the same
	}
	return t
}

// forgetTools forgets a list that was wrong or is stale, and not what has come since.
func (a *Arrays) forgetTools(key [32]byte, t *toolHeaders) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tools[key] == t {
		delete(a.tools, key)
	}
}

// listTools reads the list. One that does not come whole leaves what came.
func (r *run) listTools(t *toolHeaders, version string) {
	defer close(t.ready)
	kept := toolsKept
	if r.a.forAll("tools/list", toolsWait, func(ctx context.Context) *mcp.Failure { return r.listPages(ctx, t, version) }) != nil {
		kept = noToolsKept
	}
	a, key := r.a, r.partition
	time.AfterFunc(kept, func() { a.forgetTools(key, t) })
}

// listPages reads all pages of the list.
func (r *run) listPages(ctx context.Context, t *toolHeaders, version string) *mcp.Failure {
	budget, params := mcp.NewBudget(maxToolBytes), ""
	for range maxToolPages {
		own := r.ownCall("", nil, `"id":0,"method":"tools/list","params":{`+params+`}`)
		body, m := r.withMeta(own.Body, &own.Message, version)
		c, _ := r.modernCall(ctx, body, &m, version)
		p, f := r.callOnce(ctx, c, budget)
		if f != nil {
			return f
		}
		var page struct {
			Tools []struct {
				Name        string           `json:"name"`
				InputSchema mcp.ParamHeaders `json:"inputSchema"`
			} `json:"tools"`
			NextCursor *string `json:"nextCursor"`
		}
		err := json.Unmarshal(p.Message.Result.Of(p.Body), &page)
		r.a.opts.Buffers.Put(p.Body)
		if err != nil { // an error has no result, which is no JSON
			return p.Failure()
		}
		for _, tool := range page.Tools {
			if len(tool.InputSchema) > 0 {
				t.of[tool.Name] = tool.InputSchema
			}
		}
		if page.NextCursor == nil {
			break
		}
		params = `"cursor":` + string(quoted(*page.NextCursor))
	}
	return nil
}
