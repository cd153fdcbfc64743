package cache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// keyStage is a stage that has seen the initialize of a server without sessions.
func keyStage(tb testing.TB) *Stage {
	tb.Helper()
	s, err := NewStore(StoreOptions{Memory: memory.Options{Size: 1 << 20}, State: MemoryState([]byte("0123456789abcdef"))})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	u := s.Stage(StageOptions{Name: "docs", Identity: "docs"}, nil)
	u.sessions.put(sessionName("", mcp.Version20250618), &session{history: new(history), version: mcp.Version20250618}, maxRemembered)
	return u
}

// keyed returns the key of a tools/list with these params; false where it has none, or is no request.
func (u *Stage) keyed(params []byte) (tier.Key, bool) {
	body := append([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"`), `,"params":`...)
	c := &mcp.Call{Era: mcp.EraLegacy, Version: mcp.Version20250618, Body: append(append(body, params...), '}'), Header: header.List{}}
	if len(params) == 0 {
		c.Body = []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	}
	if mcp.Scan(c.Body, &c.Message) != nil {
		return tier.Key{}, false
	}
	q := u.requestOf(c, partition{})
	if q == nil {
		return tier.Key{}, false
	}
	return q.private.Key, true
}

// refKeyed reports whether params that have a form are for the cache at all: none of their names belongs to one request.
func refKeyed(params map[string]any) bool {
	for _, name := range []string{"inputResponses", "requestState", "task"} {
		if _, there := params[name]; there {
			return false
		}
	}
	if cursor, there := params["cursor"]; there {
		if _, isText := cursor.(string); !isText {
			return false
		}
	}
	meta, _ := params["_meta"].(map[string]any)
	for _, name := range []string{"progressToken", "io.modelcontextprotocol/logLevel"} {
		if _, there := meta[name]; there {
			return false
		}
	}
	return true
}

// checkKeys holds that two requests have one key exactly where the reference says that they ask the same.
func checkKeys(tb testing.TB, u *Stage, a, b []byte) {
	tb.Helper()
	refA, okA := refParams(a)
	refB, okB := refParams(b)
	keyA, hasA := u.keyed(a)
	keyB, hasB := u.keyed(b)
	for _, one := range []struct {
		params []byte
		ok, is bool
		ref    map[string]any
	}{{a, okA, hasA, refA}, {b, okB, hasB, refB}} {
		if want := one.ok && refKeyed(one.ref) && len(bytes.TrimSpace(one.params)) <= maxParams; one.is != want {
			tb.Fatalf("%q has a key: %v, want %v", one.params, one.is, want)
		}
	}
	if hasA && hasB && (keyA == keyB) != reflect.DeepEqual(refA, refB) {
		tb.Fatalf("%q and %q have one key: %v", a, b, keyA == keyB)
	}
}

var keySeeds = [][2]string{
	{``, `{}`}, {`{}`, `{"_meta":{}}`}, {`{"_meta":{"traceparent":"1"}}`, `{"_meta":{"tracestate":1,"baggage":[]}}`},
	{`{"_meta":null}`, `{}`}, {`{"_meta":{"x":1}}`, `{"_meta":{"x":1,"traceparent":2}}`}, {`{"_meta":[]}`, `{"_meta":{}}`},
	{`{"a":1}`, `{"a":1.0}`}, {`{"a":-0}`, `{"a":0}`}, {`{"a":1e0}`, `{"a":1E0}`}, {`{"a":1e400}`, `{"a":1e500}`}, {`{"a":0.10}`, `{"a":0.1}`},
	{`{"a":9007199254740993}`, `{"a":9007199254740992}`}, {`{"a":"\u0061"}`, `{"\u0061":"a"}`}, {`{"a":"\/"}`, `{"a":"/"}`},
	{`{"a":"\ud83d\ude00"}`, `{"a":"😀"}`}, {`{"a":"\ud83d"}`, `{"a":"\ufffd"}`}, {"{\"a\":\"\xff\"}", `{"a":"\ufffd"}`},
	{`{"a":{"b":1},"c":2}`, `{"c":2,"a":{"b":1}}`}, {`{"a":{"b":1,"c":2}}`, `{"a":{"b":1},"c":2}`}, {`{"a":[1,[2]]}`, `{"a":[[1],2]}`},
	{`{"a":1,"a":1}`, `{"a":1}`}, {`{"a":{"b":1,"\u0062":1}}`, `{"a":{"b":1}}`}, {`{"cursor":"1"}`, `{"Cursor":"1"}`},
	{`{"a":"1"}`, `{"a":1}`}, {`{"a":[]}`, `{"a":{}}`}, {`{"a":""}`, `{"":"a"}`}, {`{"":{"":{}}}`, `{"":{}}`}, {` {"a":1} `, `{"a" : 1}`},
	{`{"_meta":{"_meta":{"traceparent":1}}}`, `{"_meta":{"_meta":{}}}`}, {`{"x":{"_meta":{"traceparent":1}}}`, `{"x":{"_meta":{}}}`},
	{`{"\u005fmeta":{"\u0074raceparent":1}}`, `{}`}, {`{"é":1}`, `{"e\u0301":1}`}, {`{"a":"\u2028<>&"}`, `{"a":"` + "\u2028" + `\u003c\u003e\u0026"}`},
	{`{"task":1}`, `{}`}, {`{"_meta":{"progressToken":1}}`, `{}`}, {`{"cursor":1}`, `{}`}, {`[]`, `{}`}, {`{"a":1}x`, `{"a":1}`},
	{"{\"\uff61\":1,\"\U0001f600\":2}", "{\"\U0001f600\":2,\"\uff61\":1}"}, {`{"a":"\u0000"}`, `{"a":"\u0001"}`}, {`{"a":true}`, `{"a":"true"}`},
}

// FuzzKey looks for two requests that ask something else and have one key, and for two that ask the same and have not.
func FuzzKey(f *testing.F) {
	for _, s := range keySeeds {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	u := keyStage(f)
	f.Fuzz(func(t *testing.T, a, b []byte) { checkKeys(t, u, a, b) })
}

// keyParts are the parts of one key.
type keyParts struct {
	plain                                bool
	upstream, version, sessionID, method string
	partition                            partition
	caps, params                         []byte // caps may be nil, which is no empty one
}

func (p *keyParts) key() tier.Key {
	k, _ := keyOf(nil, &keyInput{plain: p.plain, upstream: p.upstream, version: p.version, partition: p.partition, capabilities: p.caps, sessionID: p.sessionID}, p.method, p.params)
	return k
}

func (p *keyParts) equal(o *keyParts) bool {
	return p.plain == o.plain && p.upstream == o.upstream && p.version == o.version && p.sessionID == o.sessionID && p.partition == o.partition &&
		p.method == o.method && bytes.Equal(p.params, o.params) && bytes.Equal(p.caps, o.caps) && (p.caps == nil) == (o.caps == nil)
}

// FuzzKeyParts cuts one row of bytes in two ways: only the same cuts may have the same key.
func FuzzKeyParts(f *testing.F) {
	f.Add([]byte("upstream2026-07-28{}{}session"), uint64(0x0102030405), uint64(0x0102030405))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), uint64(0x0101010101), uint64(0x0102010101))
	f.Add([]byte("\x00\x01\x00\x01\x00\x01\x00\x01"), uint64(0x0100010001), uint64(0x0001000100))
	f.Add([]byte(strings.Repeat("\x80\x01", 200)), uint64(0x7f8081ff01), uint64(0x80817fff01))
	f.Add([]byte(""), uint64(1<<40), uint64(1<<41))
	f.Fuzz(func(t *testing.T, row []byte, cutA, cutB uint64) {
		a, b := cutParts(row, cutA), cutParts(row, cutB)
		if (a.key() == b.key()) != a.equal(&b) {
			t.Fatalf("%+v and %+v have one key: %v", a, b, a.key() == b.key())
		}
	})
}

// cutParts cuts a row: six lengths of a byte each, then some bits.
func cutParts(row []byte, cuts uint64) keyParts {
	next := func() []byte {
		n := min(int(cuts&0xff), len(row))
		part := row[:n:n]
		row, cuts = row[n:], cuts>>8
		return part
	}
	p := keyParts{upstream: string(next()), version: string(next()), sessionID: string(next()), params: next(), caps: next()}
	p.method = string(next())
	if cuts&1 == 1 && len(p.caps) == 0 {
		p.caps = nil
	}
	p.plain = cuts&2 != 0
	p.partition[31] = byte(cuts >> 8)
	return p
}

// TestKeyParts makes many keys of few and short parts, so that parts which run into each other meet.
func TestKeyParts(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	part := func() []byte {
		return [][]byte{{}, {0}, {1}, {2}, {0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}}[random.IntN(10)]
	}
	seen := make(map[tier.Key]keyParts)
	for range 50_000 {
		p := keyParts{upstream: string(part()), version: string(part()), sessionID: string(part()), params: part(), caps: part()}
		if random.IntN(2) == 0 {
			p.caps = nil
		}
		p.partition[0], p.method, p.plain = byte(random.IntN(2)), string(part()), random.IntN(2) == 0
		k := p.key()
		if other, there := seen[k]; there && !other.equal(&p) {
			t.Fatalf("seed %d: %+v and %+v have one key", seed, other, p)
		}
		seen[k] = p
	}
}

// FuzzPartition cuts one row of bytes into headers in two ways: only the same headers are the same credential.
func FuzzPartition(f *testing.F) {
	f.Add("X-A:1:2 X-B:3", "X-A:1 X-B:2:3")
	f.Add("X-A:1", "X-A:1 User-Agent:x Sec-Ch:y")
	f.Add("X-A: X-B", "X-A:X-B")
	f.Add("A:b", "Ab:")
	f.Add("A A:", "A::")
	p := &partitioner{secret: newSecret([]byte("0123456789abcdef"))}
	f.Fuzz(func(t *testing.T, a, b string) {
		headerA, identityA := cutHeader(a)
		headerB, identityB := cutHeader(b)
		partA, _ := p.of(headerA, "", nil)
		partB, _ := p.of(headerB, "", nil)
		if (partA == partB) != reflect.DeepEqual(identityA, identityB) || partA == (partition{}) {
			t.Fatalf("%q and %q are one credential: %v", headerA, headerB, partA == partB)
		}
	})
}

// cutHeader reads "name:value:value name:value", and returns what of it says who asks as well.
func cutHeader(row string) (_ header.List, identity http.Header) {
	all, identity := make(http.Header), make(http.Header)
	for field := range strings.SplitSeq(row, " ") {
		parts := strings.Split(field, ":")
		name := http.CanonicalHeaderKey(parts[0])
		all[name] = append(all[name], parts[1:]...)
		if len(all[name]) > 0 && !inert[name] && !strings.HasPrefix(name, "Sec-") {
			identity[name] = all[name]
		}
	}
	return header.Of(all), identity
}

// BenchmarkAsk reads a request that was asked before, byte for byte, and one that was not.
func BenchmarkAsk(b *testing.B) {
	u := keyStage(b)
	call := func(i int) *mcp.Call {
		c := &mcp.Call{
			Era: mcp.EraModern, Version: mcp.Version20260728, Start: time.Now(),
			Header: header.Of(http.Header{"Authorization": {"Bearer a"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Method": {"tools/list"}}),
			Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"i":` + strconv.Itoa(i) + `,"_meta":{` +
				`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"a","version":"1"},` +
				`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}}}`),
		}
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			b.Fatal(err)
		}
		return c
	}
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		c := call(0)
		for b.Loop() {
			if u.requestOf(c, u.store.Partition(c)) == nil {
				b.Fatal("no question")
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		calls := make([]*mcp.Call, 2*maxRequests) // more than are remembered
		for i := range calls {
			calls[i] = call(i)
		}
		for i := 0; b.Loop(); i++ {
			c := calls[i%len(calls)]
			if u.requestOf(c, u.store.Partition(c)) == nil {
				b.Fatal("no question")
			}
		}
	})
}
