package http1_test

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
)

// FuzzAnswer compares what is read of any bytes with what net/http reads. What is taken for a whole answer here is one there:
// the same status, fields, length and body, and a connection is used again only where net/http's reader would.
func FuzzAnswer(f *testing.F) {
	for _, v := range valid {
		f.Add(v.method == "HEAD", v.raw, 7)
	}
	for _, raw := range invalid {
		f.Add(false, raw, 7)
	}
	f.Fuzz(compare)
}

// TestMutatedAnswers is a short, equal part of that in every run: answers with pieces of others in them, cut and changed.
func TestMutatedAnswers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 17))
	var seeds []string
	for _, v := range valid {
		seeds = append(seeds, v.raw)
	}
	seeds = append(seeds, invalid...)
	seeds = slices.DeleteFunc(seeds, func(s string) bool { return len(s) > 2000 || s == "" })
	whole := 0
	for range 10_000 {
		raw := mutated(rng, seeds)
		if compare(t, rng.IntN(8) == 0, raw, 1+rng.IntN(40)); readCanned(t, "POST", raw, 100).err == nil {
			whole++
		}
		if t.Failed() {
			t.Fatalf("of %q", raw)
		}
	}
	if whole < 500 {
		t.Errorf("only %d of the answers were whole: the test tests nothing", whole)
	}
}

const changes = "\r\n \t:;,0129aZ\x00\xff-"

// mutated returns a seed with a few changes.
func mutated(rng *rand.Rand, seeds []string) string {
	raw := []byte(seeds[rng.IntN(len(seeds))])
	for range rng.IntN(4) {
		at := rng.IntN(len(raw) + 1)
		switch other := seeds[rng.IntN(len(seeds))]; rng.IntN(4) {
		case 0:
			raw = slices.Insert(raw, at, changes[rng.IntN(len(changes))])
		case 1:
			raw = slices.Delete(raw, at, min(at+1+rng.IntN(3), len(raw)))
		case 2: // a line of another one
			lines := strings.SplitAfter(other, "\n")
			start := bytes.LastIndexByte(raw[:at], '\n') + 1
			raw = slices.Insert(raw, start, []byte(lines[rng.IntN(len(lines))])...)
		case 3:
			raw = append(raw[:at:at], other[rng.IntN(len(other)):]...)
		}
	}
	return string(raw)
}

func compare(t *testing.T, head bool, raw string, piece int) {
	method := "POST"
	if head {
		method = "HEAD"
	}
	ours := readCanned(t, method, raw, min(max(piece, 1), 1<<20))
	if ours.err != nil {
		return
	}
	br := bufio.NewReaderSize(strings.NewReader(raw), 8<<10)
	theirs, body, err := readTheirs(br, method)
	switch {
	case err != nil:
		t.Fatalf("net/http says %v, here it is whole: %q", err, ours.body)
	case theirs.StatusCode != ours.a.Status || body != ours.body:
		t.Errorf("got %d %q, net/http %d %q", ours.a.Status, ours.body, theirs.StatusCode, body)
	case ours.kept && ours.left == 0 && (theirs.Close || br.Buffered() > 0):
		t.Errorf("the connection is used again, net/http would not: close %v, %d bytes behind", theirs.Close, br.Buffered())
	case ours.a.Length != theirs.ContentLength && !head && ours.a.Status != http.StatusNotModified:
		t.Errorf("length %d, net/http %d", ours.a.Length, theirs.ContentLength)
	}
	sameFields(t, ours.a.Header, theirs.Header)
}

// readTheirs reads an answer with net/http, interim ones skipped.
func readTheirs(br *bufio.Reader, method string) (*http.Response, string, error) {
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return nil, "", err
		}
		if resp.StatusCode >= 200 {
			body, err := io.ReadAll(resp.Body)
			return resp, string(body), err
		}
	}
}

// sameFields compares fields, but for those that net/http takes off or adds.
func sameFields(t *testing.T, ours header.List, theirs http.Header) {
	got := http.Header{}
	for _, f := range ours {
		got.Add(f.Name, f.Value)
	}
	for _, name := range []string{"Transfer-Encoding", "Trailer", "Connection", "Cache-Control"} {
		got.Del(name)
		theirs.Del(name)
	}
	if len(got) != len(theirs) {
		t.Errorf("fields %q, net/http %q", got, theirs)
	}
	for name, values := range got {
		if !slices.Equal(values, theirs[name]) {
			t.Errorf("%s: %q, net/http %q", name, values, theirs[name])
		}
	}
}
