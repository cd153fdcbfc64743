package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// tools knows, for each partition, which arguments of which tools have headers.
type tools struct {
	mu sync.Mutex
	by map[[32]byte]*toolHeaders
}

// toolHeaders are those of one list of tools.
type toolHeaders struct {
	ready chan struct{} // closed when the following are there
	until time.Time
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
	a, key := r.a, r.whose()
	a.tools.mu.Lock()
	t := a.tools.by[key]
	if t == nil || t.isStale() {
		t = &toolHeaders{ready: make(chan struct{})}
		a.tools.putLocked(key, t)
		a.running.Go(func() { r.listTools(t, version) }) // beside the array, which runs
	}
	a.tools.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		return &toolHeaders{} // the call fails of the same
	}
	return t
}

func (t *toolHeaders) isStale() bool {
	select {
	case <-t.ready:
		return time.Now().After(t.until)
	default:
		return false
	}
}

func (a *tools) putLocked(key [32]byte, t *toolHeaders) {
	if a.by[key] == nil && len(a.by) >= maxToolPartitions {
		for some := range a.by {
			delete(a.by, some)
			break
		}
	}
	a.by[key] = t
}

// expire forgets a list, and reports whether it is worth while to ask for another: it is not where nobody waited long.
func (a *tools) expire(key [32]byte, t *toolHeaders) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by[key] == t {
		delete(a.by, key)
	}
	return t.ready != nil
}

// listTools reads all pages of the list. A list that does not come whole leaves what came.
func (r *run) listTools(t *toolHeaders, version string) {
	defer close(t.ready)
	ctx, cancel := context.WithTimeout(r.a.base, toolsWait)
	defer cancel()
	kept := noToolsKept
	t.args = map[string][]headerArg{}
	defer func() {
		t.until = time.Now().Add(kept)
		if p := recover(); p != nil {
			r.a.opts.Log.Error("bug: a list of tools panicked", "upstream", r.a.opts.Upstream, "panic", p)
		}
	}()
	room := mcp.NewBudget(maxToolBytes)
	params := ""
	for range maxToolPages {
		next, ok := r.listPage(ctx, t, room, version, params)
		if !ok {
			return
		}
		if next == nil {
			break
		}
		params = `"cursor":` + string(quoted(*next))
	}
	kept = toolsKept
}

// listPage reads one page. params are the members of the request's params.
func (r *run) listPage(ctx context.Context, t *toolHeaders, room *mcp.Budget, version, params string) (next *string, ok bool) {
	own := r.ownCall("", nil, `"id":0,"method":"tools/list","params":{`+params+`}`)
	body, m := r.withMeta(own.Body, &own.Message, version)
	c, _ := r.modernCall(ctx, body, m, version)
	reply, f := r.exchange(ctx, c, room)
	if f != nil || reply.Message.Kind != mcp.KindResult {
		return nil, false
	}
	defer r.a.opts.Buffers.Put(reply.Body)
	var page struct {
		Tools []struct {
			Name        string       `json:"name"`
			InputSchema headerSchema `json:"inputSchema"`
		} `json:"tools"`
		NextCursor *string `json:"nextCursor"`
	}
	if json.Unmarshal(reply.Message.Result.Of(reply.Body), &page) != nil {
		return nil, false
	}
	for i := range page.Tools {
		if args, ok := page.Tools[i].InputSchema.args(nil, nil); ok && len(args) > 0 {
			t.args[page.Tools[i].Name] = args
		}
	}
	return page.NextCursor, true
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
func (s *headerSchema) args(path []string, all []headerArg) ([]headerArg, bool) {
	for name, p := range s.Properties {
		own := append(slices.Clip(path), name)
		if p.Header != nil {
			field, ok := p.field()
			if !ok || slices.ContainsFunc(all, func(a headerArg) bool { return a.field == field }) {
				return nil, false
			}
			all = append(all, headerArg{own, field})
		}
		var ok bool
		if all, ok = p.args(own, all); !ok {
			return nil, false
		}
	}
	return all, true
}

func (s *headerSchema) field() (string, bool) {
	name, ok := mcp.Text(s.Header)
	if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isTokenChar(c) }) {
		return "", false
	}
	switch string(s.Type) {
	case `"string"`, `"integer"`, `"boolean"`:
		return http.CanonicalHeaderKey("Mcp-Param-" + name), true
	}
	return "", false
}

// isTokenChar reports whether a rune may stand in the name of a header field (RFC 9110, 5.6.2).
func isTokenChar(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c < 0x80 && strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// put sets the headers of a call of the tool. An argument that is not there or null has none.
func (t *toolHeaders) put(h http.Header, tool string, params []byte) {
	args := t.args[tool]
	if len(args) == 0 {
		return
	}
	arguments, err := mcp.Member(params, "arguments")
	if err != nil {
		return
	}
	for _, a := range args {
		value := arguments.Of(params)
		for _, name := range a.path {
			if len(value) == 0 || value[0] != '{' {
				value = nil
				break
			}
			at, err := mcp.Member(value, name)
			if err != nil {
				value = nil
				break
			}
			value = at.Of(value)
		}
		if text, ok := argText(value); ok {
			h[a.field] = []string{fieldValue(text)}
		}
	}
}

// argText returns the text of a string, a boolean or an integer. One that is written as a float has the text of the integer,
// as far as every float is one of its own.
func argText(token []byte) (string, bool) {
	if len(token) == 0 {
		return "", false
	}
	switch token[0] {
	case '"':
		return mcp.Text(token)
	case 't', 'f':
		return string(token), true
	case '{', '[', 'n':
		return "", false
	}
	if !bytes.ContainsAny(token, ".eE") {
		return string(token), len(token) <= 64
	}
	const limit = 1<<53 - 1
	n, err := strconv.ParseFloat(string(token), 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > limit {
		return "", false
	}
	return strconv.FormatInt(int64(n), 10), true
}
