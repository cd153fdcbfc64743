package mcp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"fluentd-perf/internal/mcp"
)

// chunks is a reader that gives one chunk a Read, or what fits of it, and then err.
type chunks struct {
	left  [][]byte
	err   error
	reads int
	sizes []int    // of the buffers that it was given
	last  [][]byte // those buffers
}

func cut(pieces ...string) *chunks {
	c := &chunks{err: io.EOF}
	for _, p := range pieces {
		c.left = append(c.left, []byte(p))
	}
	return c
}

func (c *chunks) Read(p []byte) (int, error) {
	c.reads++
	c.sizes, c.last = append(c.sizes, len(p)), append(c.last, p)
	for len(c.left) > 0 && len(c.left[0]) == 0 {
		c.left = c.left[1:]
	}
	if len(c.left) == 0 {
		return 0, c.err
	}
	n := copy(p, c.left[0])
	c.left[0] = c.left[0][n:]
	return n, nil
}

// seen is an event with its fields as text: "-" where one is missing.
type seen struct{ Raw, Name, Data, ID, Retry string }

func (s seen) dispatches() bool {
	return s != seen{Raw: s.Raw, Name: "-", Data: "-", ID: "-", Retry: "-"}
}

func text(b []byte) string {
	if b == nil {
		return "-"
	}
	return string(b)
}

// readEvents reads r to its end. It checks that More tells the truth.
func readEvents(t *testing.T, c *chunks, limit int) ([]seen, error) {
	t.Helper()
	var pool mcp.BufferPool
	r := mcp.NewEventReader(c, &pool, limit)
	defer r.Close()
	var all []seen
	for more := false; ; {
		before := c.reads
		e, err := r.Next()
		if more && (c.reads > before || err != nil) {
			t.Fatalf("More was true, then %d reads, error %v", c.reads-before, err)
		}
		if err != nil {
			if _, again := r.Next(); again != err {
				t.Fatalf("error %v, then %v", err, again)
			}
			return all, err
		}
		if !more && len(all) > 0 && c.reads == before {
			t.Fatalf("More was false, and %q was there already", e.Raw)
		}
		more = e.More
		if e.HasID != (e.ID != nil) {
			t.Fatalf("HasID %v, ID %q", e.HasID, e.ID)
		}
		all = append(all, seen{string(e.Raw), text(e.Name), text(e.Data), text(e.ID), text(e.Retry)})
	}
}

func TestEventReaderReadsFields(t *testing.T) {
	tests := []struct {
		stream string
		want   []seen
	}{
		{"", nil},
		{"data: x\n\n", []seen{{"data: x\n\n", "-", "x", "-", "-"}}},
		{"data:x\n\n", []seen{{"data:x\n\n", "-", "x", "-", "-"}}},
		{"data:  x \n\n", []seen{{"data:  x \n\n", "-", " x ", "-", "-"}}},
		{"data: a:b: c\n\n", []seen{{"data: a:b: c\n\n", "-", "a:b: c", "-", "-"}}},
		{"data\n\n", []seen{{"data\n\n", "-", "", "-", "-"}}},
		{"data:\n\n", []seen{{"data:\n\n", "-", "", "-", "-"}}},
		{"data\ndata\n\n", []seen{{"data\ndata\n\n", "-", "\n", "-", "-"}}},
		{"data: a\ndata:  b\ndata\ndata:c\n\n", []seen{{"data: a\ndata:  b\ndata\ndata:c\n\n", "-", "a\n b\n\nc", "-", "-"}}},
		{"event: message\nid: 7\nretry: 3000\ndata: {}\n\n", []seen{{"event: message\nid: 7\nretry: 3000\ndata: {}\n\n", "message", "{}", "7", "3000"}}},
		{"id\nevent\ndata: x\n\n", []seen{{"id\nevent\ndata: x\n\n", "", "x", "", "-"}}},
		{"id: 1\nid: 2\nevent: a\nevent: b\nretry: 1\nretry: 2\n\n", []seen{{"id: 1\nid: 2\nevent: a\nevent: b\nretry: 1\nretry: 2\n\n", "b", "-", "2", "2"}}},
		{"id: a\x00b\n\n", []seen{{"id: a\x00b\n\n", "-", "-", "-", "-"}}},
		{"id: 1\nid: \x00\n\n", []seen{{"id: 1\nid: \x00\n\n", "-", "-", "1", "-"}}},
		{"retry: 1e3\nretry: -1\nretry: \nretry\n\n", []seen{{"retry: 1e3\nretry: -1\nretry: \nretry\n\n", "-", "-", "-", "-"}}},
		{"Data: x\n data: x\ndata : x\nfoo: bar\nfoo\n\n", []seen{{"Data: x\n data: x\ndata : x\nfoo: bar\nfoo\n\n", "-", "-", "-", "-"}}},
		{"\xef\xbb\xbfdata: x\n\n", []seen{{"data: x\n\n", "-", "x", "-", "-"}}},
		{"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []seen{{"\xef\xbb\xbfdata: x\n\n", "-", "-", "-", "-"}}},
		{"data: x\n\n\xef\xbb\xbfdata: y\n\n", []seen{{"data: x\n\n", "-", "x", "-", "-"}, {"\xef\xbb\xbfdata: y\n\n", "-", "-", "-", "-"}}},
		{"\xef\xbbdata: y\n\n", []seen{{"\xef\xbbdata: y\n\n", "-", "-", "-", "-"}}},
		{"\xef\xbb\xbf\n", []seen{{"\n", "-", "-", "-", "-"}}},
		{": ping\n\ndata: x\n\n", []seen{{": ping\n\n", "-", "-", "-", "-"}, {"data: x\n\n", "-", "x", "-", "-"}}},
		{":\n: two\ndata: x\n: three\n\n", []seen{{":\n", "-", "-", "-", "-"}, {": two\n", "-", "-", "-", "-"}, {"data: x\n: three\n\n", "-", "x", "-", "-"}}},
		{": ping\r\n\r\ndata: x\r\n\r\n", []seen{{": ping\r\n\r\n", "-", "-", "-", "-"}, {"data: x\r\n\r\n", "-", "x", "-", "-"}}},
		{"\n\n", []seen{{"\n", "-", "-", "-", "-"}, {"\n", "-", "-", "-", "-"}}},
		{"data: x\r\rdata: y\r\r", []seen{{"data: x\r\r", "-", "x", "-", "-"}, {"data: y\r\r", "-", "y", "-", "-"}}},
		{"data: x\n\rdata: y\r\n\ndata: z\r\n\r", []seen{{"data: x\n\r", "-", "x", "-", "-"}, {"data: y\r\n\n", "-", "y", "-", "-"}, {"data: z\r\n\r", "-", "z", "-", "-"}}},
		{"data: a\rdata: b\r\ndata: c\n\n", []seen{{"data: a\rdata: b\r\ndata: c\n\n", "-", "a\nb\nc", "-", "-"}}},
		{"data: x\n\ndata: lost\n", []seen{{"data: x\n\n", "-", "x", "-", "-"}}},
		{"data: x\n\n: lost", []seen{{"data: x\n\n", "-", "x", "-", "-"}}},
	}
	for _, tt := range tests {
		got, err := readEvents(t, cut(tt.stream), 1<<20)
		if err != io.EOF || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %q, %v\nwant %q", tt.stream, got, err, tt.want)
		}
		want, _ := referenceEvents(tt.stream, 1<<20)
		if got := joinIdle(got); !reflect.DeepEqual(got, joinIdle(want)) {
			t.Errorf("%q: got %q, the reference %q", tt.stream, got, want)
		}
	}
}

// joinIdle makes equal what may differ with the place of the cuts: the LF of a CRLF at an event's end may come by itself,
// and what dispatches nothing in one piece or in several.
func joinIdle(events []seen) []seen {
	var joined []seen
	for i, e := range events {
		last := len(joined) - 1
		switch {
		case i > 0 && e.Raw == "\n" && strings.HasSuffix(joined[last].Raw, "\r"), i > 0 && !e.dispatches() && !joined[last].dispatches():
			joined[last].Raw += e.Raw
		default:
			joined = append(joined, e)
		}
	}
	return joined
}

func TestEventReaderReadsAnySplit(t *testing.T) {
	streams := []string{
		"\xef\xbb\xbfid: 1\nevent: message\ndata: {\"a\":1}\n\n: ping\n\ndata: a\ndata: b\n\n",
		"\xef\xbb\xbfid: 1\r\nevent: message\r\ndata: {\"a\":1}\r\n\r\n: ping\r\n\r\ndata: a\r\ndata: b\r\n\r\n",
		"\xef\xbb\xbfid: 1\revent: message\rdata: {\"a\":1}\r\r: ping\r\rdata: a\rdata: b\r\r",
		"data: a\r\ndata: b\n\r\n\n\r\n: c\r\r\ndata: d\n\rdata: e\r\n\rdata\r\r\n",
		"\n\r\r\n\n\n\r",
	}
	for _, stream := range streams {
		want, _ := readEvents(t, cut(stream), 1<<20)
		want = joinIdle(want)
		check := func(pieces ...string) {
			t.Helper()
			got, err := readEvents(t, cut(pieces...), 1<<20)
			if got = joinIdle(got); err != io.EOF || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %q, %v\nwant %q", pieces, got, err, want)
			}
		}
		for i := range stream {
			check(stream[:i], stream[i:])
			for j := i; j < len(stream); j++ {
				check(stream[:i], stream[i:j], stream[j:])
			}
		}
		check(strings.Split(stream, "")...)
	}
}

// TestEventReaderDoesNotWait checks that an event comes out with the byte that completes it, whatever follows.
func TestEventReaderDoesNotWait(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\n\r", "\r\n\r", "\r\n\n", "\r\n\r\n"} {
		for _, start := range []string{"data: x", ": ping", "id: 7\ndata: y"} {
			upstream, far := io.Pipe()
			r := mcp.NewEventReader(upstream, nil, 1<<20)
			wrote := make(chan error, 1)
			stream := start + end
			go func() {
				_, err := far.Write([]byte(stream)) // and then nothing, with the pipe open
				wrote <- err
			}()
			e, err := r.Next()
			if err != nil || string(e.Raw) != stream {
				t.Errorf("%q: got %q, %v", stream, e.Raw, err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			r.Close()
			upstream.Close()
		}
	}
}

// TestEventReaderHandsOutComments checks that a comment comes out at once, without the blank line that may never follow.
func TestEventReaderHandsOutComments(t *testing.T) {
	got, err := readEvents(t, cut(": ping\n", ": ping\n", "data: x\n", ": within\n", "\n"), 1<<20)
	want := []seen{{": ping\n", "-", "-", "-", "-"}, {": ping\n", "-", "-", "-", "-"}, {"data: x\n: within\n\n", "-", "x", "-", "-"}}
	if err != io.EOF || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEventReaderKeepsToItsLimit(t *testing.T) {
	event := "data: 0123456789\n\n"
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n"} {
		event := "data: 0123456789" + end
		size := len(strings.TrimSuffix(event, "\r\n"))
		if end == "\r\n\r\n" {
			size++ // the CR of the last CRLF
		}
		for _, pieces := range [][]string{{event}, strings.Split(event, "")} {
			if got, err := readEvents(t, cut(pieces...), size); err != io.EOF || len(joinIdle(got)) != 1 {
				t.Errorf("%q, limit %d: %d events, %v", pieces, size, len(got), err)
			}
			if got, err := readEvents(t, cut(pieces...), size-1); err != mcp.ErrEventTooLarge || len(got) != 0 {
				t.Errorf("%q, limit %d: %d events, %v", pieces, size-1, len(got), err)
			}
		}
	}
	got, err := readEvents(t, cut(event, event, "data: 01234567890\n\n", event), len(event))
	if err != mcp.ErrEventTooLarge || len(got) != 2 {
		t.Errorf("%d events, %v", len(got), err)
	}
	endless := &chunks{err: io.EOF, left: bytes.Split([]byte(strings.Repeat("x", 1<<20)), []byte(""))}
	if _, err := readEvents(t, endless, 1000); err != mcp.ErrEventTooLarge || endless.reads > 1001 {
		t.Errorf("%v after %d reads", err, endless.reads)
	}
}

func TestEventReaderPassesErrorsOn(t *testing.T) {
	broken := errors.New("reset")
	c := cut("data: x\n\ndata: y\n\ndata: z")
	c.err = broken
	if got, err := readEvents(t, c, 1<<20); err != broken || len(got) != 2 {
		t.Errorf("%d events, %v", len(got), err)
	}
	c = cut()
	c.err = nil
	if _, err := readEvents(t, c, 1<<20); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	r := mcp.NewEventReader(dataAndError{}, nil, 1<<20)
	if e, err := r.Next(); err != nil || string(e.Data) != "x" {
		t.Errorf("data with an error: %q, %v", e.Data, err)
	}
	if _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

// dataAndError returns its only event together with an error.
type dataAndError struct{}

func (dataAndError) Read(p []byte) (int, error) {
	return copy(p, "data: x\n\n"), io.ErrUnexpectedEOF
}

func TestEventReaderSharesItsBuffer(t *testing.T) {
	c := cut("data: first\n\n", "id: 5\nevent: e\ndata: second\n\ndata: third\n\n")
	r := mcp.NewEventReader(c, nil, 1<<20)
	defer r.Close()
	for _, at := range []struct {
		read, offset int
	}{{0, 6}, {1, 21}, {1, 35}} {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if &e.Data[0] != &c.last[at.read][at.offset] || &e.Data[0] != &e.Raw[bytes.Index(e.Raw, e.Data)] {
			t.Errorf("%q is a copy", e.Data)
		}
	}
}

// TestEventReaderWaitsInASmallBuffer checks the size of the buffer of each Read: doubling while an event is incomplete,
// small again when nothing is held.
func TestEventReaderWaitsInASmallBuffer(t *testing.T) {
	large := "data: " + strings.Repeat("x", 100_000) + "\n\n"
	c := cut("data: x\n\n", "data: y\n\n", large, "data: z\n\n", large+"data", ": z\n\n", "data: z\n\n")
	got, err := readEvents(t, c, 1<<20)
	if err != io.EOF || len(got) != 7 {
		t.Fatalf("%d events, %v", len(got), err)
	}
	grow := []int{1 << 10, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16} // free: half of 2, 4, ... 128 KiB
	var want []int
	want = append(want, 1<<10, 1<<10)
	want = append(want, grow...)
	want = append(want, 1<<10)
	want = append(want, grow...)
	want = append(want, 1<<17-len("data"), 1<<10, 1<<10)
	if !reflect.DeepEqual(c.sizes, want) {
		t.Errorf("got %v\nwant %v", c.sizes, want)
	}
}

func TestEventReaderGivesItsBuffersBack(t *testing.T) {
	var pool mcp.BufferPool
	r := mcp.NewEventReader(cut("data: a\ndata: b\n\n"), &pool, 1<<20)
	if e, err := r.Next(); err != nil || string(e.Data) != "a\nb" {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
	if a, b := pool.Get(1<<10), pool.Get(1<<10); &a[:1][0] == &b[:1][0] {
		t.Error("a buffer came back twice")
	}
}

// TestEventReaderIsLinear reads streams of which each takes more than the deadline in quadratic time, and a second or so
// in linear time.
func TestEventReaderIsLinear(t *testing.T) {
	const size = 2 << 20
	large := "data: " + strings.Repeat("x", size)
	bytewise := func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) }
	for name, stream := range map[string]io.Reader{
		"an event byte by byte":           bytewise(large + "\n\n"),
		"lines byte by byte":              bytewise(strings.Repeat("data\r", size/5) + "\r"),
		"events of CR behind a large one": cut(large+"\r", "\r"+strings.Repeat("a\r\r", size/3)),
		"events of LF behind a large one": cut(large+"\n", "\n"+strings.Repeat("a\n\n", size/3)),
		"blank lines behind a large one":  cut(large, strings.Repeat("\r", size)),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			r := mcp.NewEventReader(stream, nil, 2*size)
			events := 0
			for {
				if _, err := r.Next(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if events++; time.Since(start) > 15*time.Second {
					t.Fatal("too slow")
				}
			}
			if events == 0 {
				t.Error("no event")
			}
		})
	}
}

// split cuts s into pieces of n bytes.
func split(s string, n int) [][]byte {
	var pieces [][]byte
	for b := []byte(s); len(b) > 0; b = b[min(n, len(b)):] {
		pieces = append(pieces, b[:min(n, len(b))])
	}
	return pieces
}

// referenceEvents reads a whole stream in the slow and obvious way.
func referenceEvents(stream string, limit int) (events []seen, tooLarge bool) {
	stream = strings.TrimPrefix(stream, "\xef\xbb\xbf")
	empty := seen{Name: "-", Data: "-", ID: "-", Retry: "-"}
	e, size := empty, 0
	for {
		i := strings.IndexAny(stream, "\r\n")
		if i < 0 {
			return events, size+len(stream) > limit
		}
		line, end := stream[:i], stream[i:i+1]
		if strings.HasPrefix(stream[i:], "\r\n") {
			end = "\r\n"
		}
		stream = stream[i+len(end):]
		first := e.Raw == ""
		e.Raw += line + end
		if line == "" || first && line[0] == ':' {
			if size+len(line)+1 > limit {
				return events, true
			}
			events = append(events, e)
			e, size = empty, 0
			continue
		}
		size += len(line) + len(end)
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "data" && e.Data == "-":
			e.Data = value
		case name == "data":
			e.Data += "\n" + value
		case name == "event":
			e.Name = value
		case name == "id" && !strings.Contains(value, "\x00"):
			e.ID = value
		case name == "retry" && value != "" && strings.Trim(value, "0123456789") == "":
			e.Retry = value
		}
	}
}

// FuzzEventReader cuts a stream in pieces and compares with the whole and with the reference.
func FuzzEventReader(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbfid: 1\r\ndata: a\rdata: b\n\n: c\r\n\r\ndata\n\n"), []byte{1, 2, 3}, uint16(1000))
	f.Add([]byte("data: "+strings.Repeat("x", 3000)+"\n\ndata: y\n\n"), []byte{200, 200, 255}, uint16(3100))
	f.Add([]byte("data: 1\r\n\r\ndata: 2\r\r\n\n\ndata: 3\n\r\n"), []byte{1}, uint16(9))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, limit uint16) {
		if limit < 4 { // less than a byte order mark is not worth telling apart
			limit += 4
		}
		want, tooLarge := referenceEvents(string(stream), int(limit))
		wantErr := io.EOF
		if tooLarge {
			wantErr = mcp.ErrEventTooLarge
		}
		for _, c := range []*chunks{{left: [][]byte{stream}, err: io.EOF}, {left: cutBy(stream, sizes), err: io.EOF}} {
			given := fmt.Sprintf("%q", c.left)
			got, err := readEvents(t, c, int(limit))
			if err != wantErr || !reflect.DeepEqual(joinIdle(got), joinIdle(want)) || !strings.HasPrefix(strings.TrimPrefix(string(stream), "\ufeff"), rawOf(got)) {
				t.Fatalf("%s, limit %d: got %q, %v\nwant %q, %v", given, limit, got, err, want, wantErr)
			}
		}
	})
}

// cutBy cuts b into pieces of the sizes, over and over.
func cutBy(b, sizes []byte) [][]byte {
	var pieces [][]byte
	for i := 0; len(b) > 0; i++ {
		n := 1
		if len(sizes) > 0 {
			n = min(1+int(sizes[i%len(sizes)]), len(b))
		}
		pieces, b = append(pieces, b[:n]), b[n:]
	}
	return pieces
}
