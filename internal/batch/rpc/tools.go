package rpc

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
	ready chan struct{}          // closed when args are there
	args  map[string][]headerArg // by tool
}

// headerArg is an argument that goes into a header as well.
type headerArg struct {
	path  []string // of names, from the arguments on
	field string   // Mcp-Param-..., canonical
}

// toolHeaders returns what is known of the tools of the caller, and asks the server if that is nothing. It is never nil; it
// may know nothing.
func (r *run) toolHeaders(ctx context.Context, version string) *toolHeaders {
	a, key := r.a, r.partition
	a.mu.Lock()
	t := a.tools[key]
	if t == nil {
		t = &toolHeaders{ready: make(chan struct{}), args: map[string][]headerArg{}}
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

// forgetTools forgets a list that was wrong or is old, and not what has come since.
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

// toolPage is of a page of the list what says which arguments have headers.
type toolPage struct {
	Tools []struct {
		Name        string       `json:"name"`
		InputSchema headerSchema `json:"inputSchema"`
	} `json:"tools"`
	NextCursor *string `json:"nextCursor"`
}

// listPages reads all pages of the list.
func (r *run) listPages(ctx context.Context, t *toolHeaders, version string) *mcp.Failure {
	budget, params := mcp.NewBudget(maxToolBytes), ""
	for range maxToolPages {
		own := r.ownCall("", nil, `"id":0,"method":"tools/list","params":{`+params+`}`)
		body, m := r.withMeta(own.Body, &own.Message, version)
		c, _ := r.modernCall(ctx, body, &m, version)
		p, f := r.exchange(ctx, c, budget)
		if f != nil {
			return f
		}
		var page toolPage
		err := json.Unmarshal(p.Message.Result.Of(p.Body), &page)
		r.a.opts.Buffers.Put(p.Body)
		if err != nil { // an error has no result, which is no JSON
			return p.Failure()
		}
		for _, tool := range page.Tools {
			if args, ok := tool.InputSchema.args(nil, nil); ok && len(args) > 0 {
				t.args[tool.Name] = args
			}
		}
		if page.NextCursor == nil {
			break
		}
		params = `"cursor":` + string(quoted(*page.NextCursor))
	}
	return nil
}

// headerSchema is of a tool's inputSchema what says which arguments have headers: `x-mcp-header` at properties of
// properties, and nowhere else (2026-07-28, SEP-2243).
type headerSchema struct {
	Type       json.RawMessage         `json:"type"`
	Header     json.RawMessage         `json:"x-mcp-header"`
	Properties map[string]headerSchema `json:"properties"`
}

// args appends the arguments that have headers. It reports false where one is marked in a way that is not allowed: such a
// tool has none then.
func (s *headerSchema) args(path []string, all []headerArg) (_ []headerArg, ok bool) {
	for name, p := range s.Properties {
		own := append(slices.Clip(path), name)
		if p.Header != nil {
			field := p.field()
			if field == "" || slices.ContainsFunc(all, func(a headerArg) bool { return a.field == field }) {
				return nil, false
			}
			all = append(all, headerArg{own, field})
		}
		if all, ok = p.args(own, all); !ok {
			return nil, false
		}
	}
	return all, true
}

// field returns the header of an argument that is marked, "" where that is not allowed.
func (s *headerSchema) field() string {
	name, _ := mcp.Text(s.Header)
	switch string(s.Type) {
	case `"string"`, `"integer"`, `"boolean"`:
		if name != "" && strings.Trim(name, tokenChars) == "" {
			return http.CanonicalHeaderKey("Mcp-Param-" + name)
		}
	}
	return ""
}

// tokenChars are what may stand in the name of a header field (RFC 9110, 5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// put sets the headers of a call of the tool. An argument that is not there or null has none.
func (t *toolHeaders) put(h http.Header, tool string, params []byte) {
	for _, a := range t.args[tool] {
		value := member(params, "arguments")
		for _, name := range a.path {
			value = member(value, name)
		}
		if text, ok := argText(value); ok {
			h[a.field] = []string{fieldValue(text)}
		}
	}
}

// member returns the value of an object's member, nil where there is none.
func member(object []byte, name string) []byte {
	at, err := mcp.Member(object, name)
	if err != nil {
		return nil // it is no object
	}
	return at.Of(object)
}

// argText returns the text of a string, a boolean or an integer. One that is written as a float has the text of the integer,
// as far as every float is one of its own.
func argText(token []byte) (string, bool) {
	if text, ok := mcp.Text(token); ok {
		return text, true
	}
	const limit = 1<<53 - 1
	text := string(token)
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case text == "true", text == "false":
		return text, true
	case err != nil: // it is null, an object, a list or nothing
		return "", false
	case !strings.ContainsAny(text, ".eE"):
		return text, len(text) <= 64
	}
	return strconv.FormatInt(int64(n), 10), n == math.Trunc(n) && math.Abs(n) <= limit
}
