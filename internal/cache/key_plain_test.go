package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// plainAsked is a call without MCP as another JSON library reads it: numbers as written, and whether params were there.
type plainAsked struct {
	method string
	there  bool
	params any
}

// refPlain reads a method's token and params. It returns false for what has no form that compares.
func refPlain(method, params []byte) (plainAsked, bool) {
	asked := plainAsked{there: len(params) > 0}
	if !bytes.HasPrefix(bytes.TrimSpace(method), []byte(`"`)) || !utf8.Valid(method) || refSurrogate(method) || json.Unmarshal(method, &asked.method) != nil {
		return asked, false
	}
	if !asked.there {
		return asked, true
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.UseNumber()
	v, ok := refValue(d)
	if _, err := d.Token(); !ok || err != io.EOF || !utf8.Valid(params) || refSurrogate(params) {
		return asked, false
	}
	asked.params = v
	switch v.(type) {
	case map[string]any, []any:
		return asked, true
	}
	return asked, false
}

// plainStage is a stage of a server without MCP, whose methods are to be named.
func plainStage(tb testing.TB) *Stage {
	u := keyStage(tb)
	u.opts.Plain, u.opts.TTL = true, make(map[string]time.Duration)
	return u
}

// keyedPlain returns the key of a call; false where it has none, or is no request.
func (u *Stage) keyedPlain(method, params []byte) (tier.Key, bool) {
	c := &mcp.Call{Era: mcp.EraPlain, Header: header.List{}}
	c.Body = append([]byte(`{"jsonrpc":"2.0","id":1,"method":`), method...)
	if len(params) > 0 {
		c.Body = append(append(c.Body, `,"params":`...), params...)
	}
	c.Body = append(c.Body, '}')
	if m := &c.Message; mcp.Scan(c.Body, m) != nil ||
		!bytes.Equal(m.MethodName.Of(c.Body), bytes.TrimSpace(method)) || !bytes.Equal(m.Params.Of(c.Body), bytes.TrimSpace(params)) {
		return tier.Key{}, false // or other members in disguise
	}
	c.Message.Method = mcp.MethodOther
	q := u.requestOf(c, partition{})
	if q == nil {
		return tier.Key{}, false
	}
	return q.private.Key, true
}

// checkPlainKeys holds that two calls have one key exactly where the reference says that they ask the same.
func checkPlainKeys(tb testing.TB, u *Stage, methodA, a, methodB, b []byte) {
	tb.Helper()
	refA, okA := refPlain(methodA, a)
	refB, okB := refPlain(methodB, b)
	clear(u.opts.TTL)
	u.opts.TTL[refA.method], u.opts.TTL[refB.method] = time.Second, time.Second
	keyA, hasA := u.keyedPlain(methodA, a)
	keyB, hasB := u.keyedPlain(methodB, b)
	if want := okA && len(bytes.TrimSpace(a)) <= maxParams; hasA != want {
		tb.Fatalf("%q of %q has a key: %v, want %v", a, methodA, hasA, want)
	}
	if want := okB && len(bytes.TrimSpace(b)) <= maxParams; hasB != want {
		tb.Fatalf("%q of %q has a key: %v, want %v", b, methodB, hasB, want)
	}
	if hasA && hasB && (keyA == keyB) != reflect.DeepEqual(refA, refB) {
		tb.Fatalf("%q of %q and %q of %q have one key: %v", a, methodA, b, methodB, keyA == keyB)
	}
}

// FuzzPlainKey looks for two calls without MCP that ask something else and have one key, and for two that ask the same and
// have not.
func FuzzPlainKey(f *testing.F) {
	for _, s := range keySeeds {
		f.Add([]byte(`"a"`), []byte(s[0]), []byte(`"\u0061"`), []byte(s[1]))
		f.Add([]byte(`"a"`), []byte(`[`+s[0]+`]`), []byte(`"a"`), []byte(`[`+s[1]+`]`))
	}
	for _, s := range [][4]string{
		{`"a"`, ``, `"a"`, `{}`}, {`"a"`, `{}`, `"a"`, `[]`}, {`"a"`, ``, `"a"`, `[]`}, {`"a"`, `[1,2]`, `"a"`, `[2,1]`}, {`"a"`, `[1,[2]]`, `"a"`, `[[1],2]`},
		{`"a"`, `[1]`, `"b"`, `[1]`}, {`"a["`, `1]`, `"a"`, `[1]`}, {`"a"`, `[null]`, `"a"`, `[]`}, {`"a"`, `null`, `"a"`, ``}, {`"a"`, `"x"`, `"a"`, `1`},
		{`"a\\b"`, `[]`, `"a\u005cb"`, `[]`}, {`"a\u005cu0062"`, `[]`, `"ab"`, `[]`}, {`"é"`, `[]`, `"e\u0301"`, `[]`}, {`""`, ``, `"\u0000"`, ``},
		{`"\ud83d\ude00"`, `[]`, `"😀"`, `[]`}, {`"\ud83d"`, `[]`, `"a"`, `[]`}, {"\"\xff\"", `[]`, `"a"`, `[]`}, {`1`, `[]`, `null`, `[]`},
		{`"tools/list"`, `{"cursor":1}`, `"tools\/list"`, `{"cursor":1}`}, {`"a"`, `["0x01",false]`, `"a"`, `["0x1",false]`},
		{`"a"`, `[{"a":1,"a":1}]`, `"a"`, `[{"a":1}]`}, {`"a","id":2`, `[]`, `"a"`, `[]`}, {`"a"`, `[],"method":"b"`, `"a"`, `[]`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]), []byte(s[3]))
	}
	u := plainStage(f)
	f.Fuzz(func(t *testing.T, methodA, a, methodB, b []byte) { checkPlainKeys(t, u, methodA, a, methodB, b) })
}

// TestPlainKeysAreNoOthers holds that the keys of calls without MCP are none of MCP's, whatever they ask.
func TestPlainKeysAreNoOthers(t *testing.T) {
	for _, params := range []string{``, `{}`, `{"a":1}`} {
		u := keyStage(t)
		of, ok := u.keyed([]byte(params))
		u.opts.Plain, u.opts.TTL = true, map[string]time.Duration{"tools/list": time.Second}
		plain, named := u.keyedPlain([]byte(`"tools/list"`), []byte(params))
		if !ok || !named || of == plain {
			t.Errorf("%q: %v %v, one key: %v", params, ok, named, of == plain)
		}
	}
}

// plainCall is a call as agents of such servers make it.
func plainCall(tb testing.TB, params string) *mcp.Call {
	tb.Helper()
	c := &mcp.Call{
		Era: mcp.EraPlain, Start: time.Now(),
		Header: header.Of(http.Header{"Authorization": {"Bearer a"}, "Accept": {"application/json"}, "Content-Type": {"application/json"}}),
		Body:   []byte(`{"jsonrpc":"2.0","id":7,"method":"getBlock","params":` + params + `}`),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		tb.Fatal(err)
	}
	c.Message.Method = mcp.MethodOther
	return c
}

// plainHit is the front half of a stage with the answer to a call in memory.
func plainHit(tb testing.TB, size int) (front mcp.Caller, c *mcp.Call) {
	tb.Helper()
	u := plainStage(tb)
	u.opts.TTL["getBlock"] = time.Hour
	u.store.buffers = new(mcp.BufferPool)
	c = plainCall(tb, `["0x1b4",true]`)
	body := []byte(`{"jsonrpc":"2.0","id":123456789,"result":"` + strings.Repeat("x", size) + `"}`)
	server := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		res := &mcp.Result{Status: http.StatusOK, Header: header.List{}, Body: body}
		res.Checked = mcp.Scan(body, &res.Message) == nil
		return res, nil
	})
	u.next, front = server, u
	asked := func(status string) {
		res, err := front.Call(tb.Context(), c)
		if err != nil || !strings.HasPrefix(res.Header.Get("Cache-Status"), status) {
			tb.Fatalf("%v %v", res, err)
		}
		if err := res.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	asked("fluentd-perf; fwd=miss; stored")
	asked("fluentd-perf; hit")
	return front, c
}

// BenchmarkPlainHit is a hit in memory, the front half alone.
func BenchmarkPlainHit(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "50KB": 50 << 10} {
		b.Run(name, func(b *testing.B) {
			front, c := plainHit(b, size)
			b.ReportAllocs()
			for b.Loop() {
				res, err := front.Call(context.Background(), c)
				if err != nil || !res.Checked {
					b.Fatal(err)
				}
				_ = res.Close()
			}
		})
	}
}
