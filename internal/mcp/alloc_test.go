//go:build !race

package mcp_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

// The race detector allocates, and has sync.Pool forget at random, so these tests leave it out.

func noAllocs(t *testing.T, name string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s: %v allocations", name, n)
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	deep := `{"jsonrpc":"2.0","id":1,"method":"x","params":` + strings.Repeat("[", mcp.MaxDepth-1) + strings.Repeat("]", mcp.MaxDepth-1) + `}`
	escapes := `{"\u006asonrpc":"\u0032.0","id":"\u00e9","method":"tools\/call","params":{"n\u0061me":"x","_meta":{}}}`
	for _, doc := range [][]byte{[]byte(smallRequest), []byte(largeResult), []byte(deep), []byte(escapes), []byte(`[{"é":1}]`)} {
		noAllocs(t, brief(string(doc)), func() {
			var m mcp.Message
			if err := mcp.Scan(doc, &m); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTokensDoNotAllocate(t *testing.T) {
	a, b, doc := []byte(`"\u0061\n"`), []byte(`"a\u000a"`), []byte(`{"b":[],"\u0061":1}`)
	noAllocs(t, "SameID of strings", func() {
		if !mcp.SameID(a, b) {
			t.Fatal("not the same")
		}
	})
	x, y := []byte(`-12.50e3`), []byte(`-1250e+1`)
	noAllocs(t, "SameID of numbers", func() {
		if !mcp.SameID(x, y) || mcp.SameID(x, a) || mcp.SameID(a, y) {
			t.Fatal("wrong")
		}
	})
	noAllocs(t, "TextIs", func() {
		if !mcp.TextIs(a, "a\n") {
			t.Fatal("is not")
		}
	})
	noAllocs(t, "Member", func() {
		if span, err := mcp.Member(doc, "a"); err != nil || !span.Present() {
			t.Fatal(err)
		}
	})
}

// repeat is a stream that gives the same bytes with each Read, without end.
type repeat []byte

func (r repeat) Read(p []byte) (int, error) { return copy(p, r), nil }

func TestEventReaderDoesNotAllocate(t *testing.T) {
	var pool mcp.BufferPool
	for name, stream := range map[string]string{
		"one event a read":  "event: message\ndata: {}\n\n",
		"several":           strings.Repeat("data: {}\n\n: ping\n\n", 10),
		"data of two lines": "data: {\ndata: }\n\n",
	} {
		r := mcp.NewEventReader(repeat(stream), &pool, 1<<20)
		noAllocs(t, name, func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		})
		r.Close()
	}
	stream := bytes.NewReader([]byte("data: " + strings.Repeat("x", 100_000) + "\n\n"))
	r := mcp.NewEventReader(endless{stream}, &pool, 1<<20)
	noAllocs(t, "an event of 100 kB", func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	})
	lines := mcp.NewLineReader(repeat("{}\n[]\r\n"), &pool, 1<<20)
	noAllocs(t, "lines", func() {
		if _, err := lines.Next(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBufferPoolReuses(t *testing.T) {
	var pool mcp.BufferPool
	noAllocs(t, "Get and Put", func() {
		a, b := pool.Get(1000), pool.Get(100_000)
		pool.Put(a)
		pool.Put(b)
		large := pool.Get(1_000_000)
		pool.Put(large)
	})
	gets, misses, discards := pool.Stats()
	if gets < 2000 || misses > gets/10 || discards != 0 {
		t.Errorf("%d gets, %d misses, %d discards", gets, misses, discards)
	}
}

// TestScanRefusesWhatSpansCannotHold asks for more memory than the race detector could shadow; none of it is touched.
func TestScanRefusesWhatSpansCannotHold(t *testing.T) {
	large := make([]byte, math.MaxInt32+1)
	var m mcp.Message
	fault, ok := mcp.Scan(large, &m).(*mcp.ScanError)
	if !ok || !fault.Invalid || m != (mcp.Message{}) {
		t.Errorf("Scan: %v", fault)
	}
	if _, err := mcp.Member(large, "a"); err == nil {
		t.Error("Member: no error")
	}
}
