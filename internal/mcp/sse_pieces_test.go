package mcp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"fluentd-perf/internal/mcp"
)

// readPieces reads c to its end in pieces: each event as it came, and the Raw of those together that make one.
func readPieces(t *testing.T, c *chunks, limit int) (events []mcp.Event, whole []seen, err error) {
	t.Helper()
	var pool mcp.BufferPool
	r := mcp.NewEventReader(c, &pool, 1) // a limit that does not count
	r.Pieces(limit)
	defer r.Close()
	for within := ""; ; {
		e, err := r.Next()
		if err != nil {
			if _, again := r.Next(); again != err {
				t.Fatalf("error %v, then %v", err, again)
			}
			if within != "" {
				whole = append(whole, seen{Raw: within, Name: "cut off"})
			}
			return events, whole, err
		}
		rest := e
		rest.Raw, rest.More, rest.Partial = nil, false, false
		switch {
		case len(e.Raw) == 0 || e.HasID != (e.ID != nil):
			t.Fatalf("%d bytes, HasID %v, ID %q", len(e.Raw), e.HasID, e.ID)
		case e.Partial && (e.More || !reflect.DeepEqual(rest, mcp.Event{})):
			t.Fatalf("a piece with more than its bytes: %+v", e)
		case e.Last != (within != "" && !e.Partial):
			t.Fatalf("Last %v behind %q", e.Last, within)
		case e.Last && (e.Name != nil || e.Data != nil || e.Retry != nil):
			t.Fatalf("a last piece with fields: %+v", e)
		}
		e.Raw, e.ID = bytes.Clone(e.Raw), bytes.Clone(e.ID)
		events = append(events, e)
		if within += string(e.Raw); e.Partial {
			continue
		}
		s := seen{within, text(e.Name), text(e.Data), text(e.ID), text(e.Retry)}
		if e.Last {
			s = reread(t, s, limit)
		}
		whole, within = append(whole, s), ""
	}
}

// reread returns the event that the pieces make together, and checks that it is one and that its id is that of the last piece.
func reread(t *testing.T, s seen, limit int) seen {
	t.Helper()
	r := mcp.NewEventReader(strings.NewReader("\n"+s.Raw), nil, 1<<30) // a mark at its start is none of the stream's
	defer r.Close()
	if e, err := r.Next(); err != nil || string(e.Raw) != "\n" {
		t.Fatal(err)
	}
	e, err := r.Next()
	tooLong := s.ID == "" && len("id:")+len(e.ID) >= limit-1
	if err != nil || string(e.Raw) != s.Raw || text(e.ID) != s.ID && !tooLong {
		t.Fatalf("pieces of %q with id %s are %q with id %s, %v", s.Raw, s.ID, e.Raw, text(e.ID), err)
	}
	return seen{s.Raw, text(e.Name), text(e.Data), s.ID, text(e.Retry)}
}

func TestEventReaderHandsOutPieces(t *testing.T) {
	const limit = 16
	type piece struct{ raw, mark string } // mark: "..." for Partial, "." and the id for Last
	for _, tt := range []struct {
		name   string
		reads  []string
		pieces []piece
	}{
		{"small events", []string{"data: x\n\n: ping\n\nid: 1\ndata: y\n\n"}, []piece{{"data: x\n\n", ""}, {": ping\n\n", ""}, {"id: 1\ndata: y\n\n", "1"}}},
		{"complete with the read that makes it large", []string{"data: 0123456789\n\n"}, []piece{{"data: 0123456789\n\n", ""}}},
		{"just not too large", []string{"data: 012345678", "9\n\n"}, []piece{{"data: 0123456789\n\n", ""}}},
		{"one line", []string{"data: 0123456789", "a", "bc", "d\n", "\n"}, []piece{{"data: 0123456789", "..."}, {"a", "..."}, {"bc", "..."}, {"d\n", "..."}, {"\n", "."}}},
		{"its end and the next event in one read", []string{"data: 0123456789", "a\n\ndata: x\n\n"}, []piece{{"data: 0123456789", "..."}, {"a\n\n", "."}, {"data: x\n\n", ""}}},
		{"lines", []string{"data: 1\ndata: 2\ndata: ", "3\ndata", ": 4\n\n"}, []piece{{"data: 1\ndata: 2\n", "..."}, {"data: 3\n", "..."}, {"data: 4\n\n", "."}}},
		{"id before", []string{"id: 7\ndata: 0123456789", "\n\n"}, []piece{{"id: 7\n", "..."}, {"data: 0123456789", "..."}, {"\n\n", ".7"}}},
		{"id behind", []string{"data: 0123456789", "\nid: 7\n\n"}, []piece{{"data: 0123456789", "..."}, {"\nid: 7\n\n", ".7"}}},
		{"id within, cut", []string{"data: 0123456789", "\ni", "d: ", "7", "\nda", "ta: z\n", "\n"}, []piece{{"data: 0123456789", "..."}, {"\n", "..."}, {"id: 7\n", "..."}, {"data: z\n", "..."}, {"\n", ".7"}}},
		{"the last of several ids", []string{"id: 1\ndata: 0123456789", "\nid: 2\n", "id: a\x00\ndata: xyz\n", "\n"}, []piece{{"id: 1\n", "..."}, {"data: 0123456789", "..."}, {"\nid: 2\n", "..."}, {"id: a\x00\ndata: xyz\n", "..."}, {"\n", ".2"}}},
		{"an empty id", []string{"id\ndata: 0123456789abc", "\n\n"}, []piece{{"id\n", "..."}, {"data: 0123456789abc", "..."}, {"\n\n", ".<>"}}},
		{"an id too long to hold", []string{"id: 1\ndata: x\nid: 0123456789abc", "d\n\n"}, []piece{{"id: 1\ndata: x\n", "..."}, {"id: 0123456789abc", "..."}, {"d\n\n", ".<>"}}},
		{"what looks like an id within a line", []string{"data: 0123456789", "id: 5", "\n\n"}, []piece{{"data: 0123456789", "..."}, {"id: 5", "..."}, {"\n\n", "."}}},
		{"ids of events apart", []string{"id: 1\ndata: 0123456789", "\n\ndata: 0123456789", "\n\n"}, []piece{{"id: 1\n", "..."}, {"data: 0123456789", "..."}, {"\n\n", ".1"}, {"data: 0123456789", "..."}, {"\n\n", "."}}},
		{"CRLF, cut between", []string{"data: 0123456789\r", "\ndata: y\r", "\n\r", "\ndata: x\r\n\r\n"}, []piece{{"data: 0123456789\r", "..."}, {"\ndata: y\r", "..."}, {"\n\r", "."}, {"\n", ""}, {"data: x\r\n\r\n", ""}}},
		{"CR", []string{"data: 0123456789\r", "data: y\r", "\r"}, []piece{{"data: 0123456789\r", "..."}, {"data: y\r", "..."}, {"\r", "."}}},
		{"a comment that stands alone", []string{": 0123456789abcd", "e", "f\ndata: x\n\n"}, []piece{{": 0123456789abcd", "..."}, {"e", "..."}, {"f\n", "."}, {"data: x\n\n", ""}}},
		{"comments within", []string{"data: 0123456789", "\n: c\n", ":", " 0123456789abcdef", "\n: d\n", "\n"}, []piece{{"data: 0123456789", "..."}, {"\n: c\n", "..."}, {": 0123456789abcdef", "..."}, {"\n: d\n", "..."}, {"\n", "."}}},
		{"a mark, then a large line", []string{"\xef", "\xbb\xbf", "data: 0123456789", "\n\n"}, []piece{{"data: 0123456789", "..."}, {"\n\n", "."}}},
		{"cut off", []string{"data: x\n\ndata: 0123456789", "\nid: 7"}, []piece{{"data: x\n\n", ""}, {"data: 0123456789", "..."}, {"\n", "..."}, {"id: 7", "..."}}},
		{"cut off before it is large", []string{"data: x\n\ndata: 012345678"}, []piece{{"data: x\n\n", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			events, _, err := readPieces(t, cut(tt.reads...), limit)
			var got []piece
			for _, e := range events {
				mark := string(e.ID)
				if e.HasID && mark == "" {
					mark = "<>"
				}
				switch {
				case e.Last:
					mark = "." + mark
				case e.Partial:
					mark = "..." + mark
				}
				got = append(got, piece{string(e.Raw), mark})
			}
			if err != io.EOF || !reflect.DeepEqual(got, tt.pieces) {
				t.Errorf("got %q, %v\nwant %q", got, err, tt.pieces)
			}
		})
	}
}

// TestEventReaderBreaksWithinPieces checks that what was read comes out before the error.
func TestEventReaderBreaksWithinPieces(t *testing.T) {
	broken := errors.New("reset")
	c := cut("data: 0123456789", "\nda")
	c.err = broken
	events, whole, err := readPieces(t, c, 16)
	if err != broken || len(events) != 3 || len(whole) != 1 || whole[0].Raw != "data: 0123456789\nda" {
		t.Errorf("%q, %v", whole, err)
	}
}

// TestEventReaderDoesNotWaitWithPieces checks that a piece comes out with the byte that makes the event too large.
func TestEventReaderDoesNotWaitWithPieces(t *testing.T) {
	upstream, far := io.Pipe()
	defer upstream.Close()
	r := mcp.NewEventReader(upstream, nil, 1<<20)
	r.Pieces(64 << 10)
	defer r.Close()
	first := "data: " + strings.Repeat("x", 64<<10-len("data: "))
	go io.WriteString(far, first+"yz") // and then nothing, with the pipe open
	for _, want := range []string{first, "yz"} {
		got := ""
		for len(got) < len(want) {
			e, err := r.Next()
			if err != nil || !e.Partial {
				t.Fatalf("partial %v, %v", e.Partial, err)
			}
			got += string(e.Raw)
		}
		if got != want {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
	}
}

// flood is a stream of n bytes: start, the line again and again, end. It notes the largest buffer that it was given.
type flood struct {
	start, line, end string
	n, largest       int
}

func (f *flood) Read(p []byte) (int, error) {
	f.largest = max(f.largest, len(p))
	if f.n <= 0 {
		n := copy(p, f.end)
		if f.end = f.end[n:]; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
	n := copy(p, f.start)
	for f.start = f.start[n:]; n < len(p); {
		n += copy(p[n:], f.line)
	}
	f.n -= n
	return n, nil
}

// TestEventReaderIsBoundedWithPieces reads an event of 1 GB, and others, and counts the memory.
func TestEventReaderIsBoundedWithPieces(t *testing.T) {
	const limit = 64 << 10
	filler := strings.Repeat("x", 1<<20)
	for name, f := range map[string]*flood{
		"one line of 1 GB":      {start: "id: 7\ndata: ", line: filler, n: 1 << 30, end: "\n\n"},
		"a comment of 64 MB":    {start: ": ", line: filler, n: 64 << 20, end: "\n"},
		"an id of 64 MB":        {start: "id: ", line: filler, n: 64 << 20, end: "\n\n"},
		"a name of 64 MB":       {line: filler, n: 64 << 20, end: "\n\n"},
		"short lines, 16 MB":    {line: "data: x\n", n: 16 << 20, end: "\n\n"},
		"lines of CRLF":         {line: "data: x\r\nid: 1\r\n", n: 16 << 20, end: "\r\n\r\n"},
		"ids that nearly fit":   {line: "id: " + filler[:limit-6] + "\n", n: 64 << 20, end: "\n\n"},
		"lines longer than one": {line: "data: " + filler[:limit+100] + "\n", n: 64 << 20, end: "\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var pool mcp.BufferPool
			size, start := f.n, time.Now()
			r := mcp.NewEventReader(f, &pool, 1)
			r.Pieces(limit)
			defer r.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			read, pieces, lasts := 0, 0, 0
			for {
				e, err := r.Next()
				if err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if read += len(e.Raw); e.Last {
					lasts++
				}
				pieces++
			}
			runtime.ReadMemStats(&after)
			gets, misses, discards := pool.Stats()
			if read < size || lasts != 1 || f.largest > limit || gets > 10 || misses > 10 || discards > 0 {
				t.Errorf("%d bytes in %d pieces, %d events, buffers of up to %d bytes, %d of them", read, pieces, lasts, f.largest, gets)
			}
			// A kept id is one of the event's, so of at most limit bytes, copied once a read.
			if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 && !strings.HasPrefix(name, "ids") {
				t.Errorf("%d bytes allocated", used)
			}
			if pieces > 4*size/limit || time.Since(start) > time.Minute {
				t.Errorf("%d pieces in %v", pieces, time.Since(start))
			}
		})
	}
}

// TestEventReaderIsSmallAgainAfterPieces checks that it waits for the next event in a small buffer.
func TestEventReaderIsSmallAgainAfterPieces(t *testing.T) {
	c := cut("data: "+strings.Repeat("x", 100_000), "\n\n", "data: y\n\n", "data: z\n\n")
	if _, whole, err := readPieces(t, c, 64<<10); err != io.EOF || len(whole) != 3 {
		t.Fatalf("%d events, %v", len(whole), err)
	}
	if n := len(c.sizes); c.sizes[n-2] != 1<<10 || c.sizes[n-3] != 1<<10 {
		t.Errorf("buffers of %v", c.sizes)
	}
	for _, n := range c.sizes {
		if n > 64<<10 {
			t.Errorf("a buffer of %d", n)
		}
	}
}

func TestEventReaderClosesWithinPieces(t *testing.T) {
	r := mcp.NewEventReader(cut("data: 0123456789", "x"), new(mcp.BufferPool), 1<<20)
	r.Pieces(16)
	if e, err := r.Next(); err != nil || !e.Partial {
		t.Fatal(e, err)
	}
	r.Close()
	r.Close()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
}

// TestEventReaderIsLinearWithPieces reads byte by byte what takes more than the deadline in quadratic time.
func TestEventReaderIsLinearWithPieces(t *testing.T) {
	const size = 1 << 20
	for name, stream := range map[string]string{
		"a line":             "data: " + strings.Repeat("x", size) + "\n\n",
		"lines":              strings.Repeat("data\r", size/5) + "\r",
		"lines of one piece": strings.Repeat("data: "+strings.Repeat("x", 60_000)+"\n", size/60_000) + "\n",
	} {
		start, read := time.Now(), 0
		r := mcp.NewEventReader(iotest.OneByteReader(strings.NewReader(stream)), nil, 1)
		r.Pieces(64 << 10)
		for {
			e, err := r.Next()
			if err != nil {
				break
			}
			if read += len(e.Raw); time.Since(start) > 15*time.Second {
				t.Fatalf("%s: too slow", name)
			}
		}
		if r.Close(); read != len(stream) {
			t.Errorf("%s: %d bytes", name, read)
		}
	}
}

// FuzzEventPieces cuts a stream and compares what comes in pieces with what comes whole: the same bytes, the same events.
func FuzzEventPieces(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbfid: 1\r\ndata: a\rdata: b\n\n: c\r\n\r\ndata\n\n"), []byte{1, 2, 3}, uint8(8))
	f.Add([]byte("data: "+strings.Repeat("x", 3000)+"\nid: 5\n\ndata: y\n\n: "+strings.Repeat("z", 3000)), []byte{200, 200, 255}, uint8(100))
	f.Add([]byte("data: 1\r\n\r\ndata: 2\r\r\n\n\ndata: 3\n\r\n"), []byte{0}, uint8(4))
	f.Add([]byte("\xef\xbb\xbfid: 1\r\ndata: a\n\n"), []byte{1, 2, 1}, uint8(1))
	f.Add([]byte("event: e\nretry: 1\nid: 1\nid\n:\ndata: 12345678\nid: 12345678901\ndata\n\n:\n"), []byte{6, 1}, uint8(12))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, limit uint8) {
		want, _ := readEvents(t, &chunks{left: [][]byte{stream}, err: io.EOF}, 1<<30)
		c := &chunks{left: cutBy(stream, sizes), err: io.EOF}
		bytewise := strings.TrimPrefix(string(stream), "\ufeff")
		least := int(limit)
		for _, line := range strings.FieldsFunc(bytewise, func(r rune) bool { return r == '\r' || r == '\n' }) {
			if strings.HasPrefix(line, "id:") { // ids that are too long have tests of their own
				least = max(least, len(line)+2)
			}
		}
		given := fmt.Sprintf("%q, limit %d", c.left, least)
		_, got, err := readPieces(t, c, least)
		all := rawOf(got)
		if n := len(got) - 1; n >= 0 && got[n].Name == "cut off" {
			if got = got[:n]; all != bytewise {
				t.Fatalf("%s: got %q", given, all)
			}
		}
		if err != io.EOF || !strings.HasPrefix(bytewise, all) || !reflect.DeepEqual(joinIdle(got), joinIdle(want)) {
			t.Fatalf("%s: got %q, %v\nwant %q", given, got, err, want)
		}
	})
}

func rawOf(events []seen) string {
	var all strings.Builder
	for _, e := range events {
		all.WriteString(e.Raw)
	}
	return all.String()
}
