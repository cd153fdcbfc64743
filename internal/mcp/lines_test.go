package mcp_test

import (
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

const tooLong = "(too long)"

// readLines reads c to its end; a line over the limit is tooLong.
func readLines(t *testing.T, c *chunks, limit int) ([]string, error) {
	t.Helper()
	var pool mcp.BufferPool
	r := mcp.NewLineReader(c, &pool, limit)
	defer r.Close()
	var lines []string
	for {
		line, err := r.Next()
		switch {
		case err == mcp.ErrLineTooLong && line == nil:
			lines = append(lines, tooLong)
		case err != nil:
			if _, again := r.Next(); again != err {
				t.Fatalf("error %v, then %v", err, again)
			}
			return lines, err
		default:
			lines = append(lines, string(line))
		}
	}
}

// referenceLines reads a whole stream in the slow and obvious way.
func referenceLines(stream string, limit int) []string {
	var lines []string
	for stream != "" {
		line, rest, ended := strings.Cut(stream, "\n")
		if stream = rest; ended {
			line = strings.TrimSuffix(line, "\r")
		}
		if len(line) > limit {
			line = tooLong
		}
		lines = append(lines, line)
	}
	return lines
}

func TestLineReader(t *testing.T) {
	tests := []struct {
		stream string
		want   []string
	}{
		{"", nil},
		{"\n", []string{""}},
		{"a\n", []string{"a"}},
		{"a", []string{"a"}},
		{"a\nb\r\n\n\r\nc", []string{"a", "b", "", "", "c"}},
		{"a\rb\r\r\nc\r", []string{"a\rb\r", "c\r"}},
		{"12345678\n", []string{"12345678"}},
		{"12345678\r\n", []string{"12345678"}},
		{"12345678", []string{"12345678"}},
		{"12345678\r", []string{tooLong}},
		{"12345678\r\r\nx\n", []string{tooLong, "x"}},
		{"123456789\nx\n", []string{tooLong, "x"}},
		{"x\n123456789", []string{"x", tooLong}},
		{"x\n" + strings.Repeat("long", 1000) + "\ny\n" + strings.Repeat("long", 1000), []string{"x", tooLong, "y", tooLong}},
	}
	for _, tt := range tests {
		if got := referenceLines(tt.stream, 8); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: the reference reads %q", tt.stream, got)
		}
		for _, n := range []int{1, 2, 3, 7, 1 << 20} {
			got, err := readLines(t, &chunks{left: split(tt.stream, n), err: io.EOF}, 8)
			if err != io.EOF || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%q by %d: got %q, %v\nwant %q", tt.stream, n, got, err, tt.want)
			}
		}
	}
}

// TestLineReaderDoesNotWait checks that a line comes out with its newline, and a line that is too long before its end.
func TestLineReaderDoesNotWait(t *testing.T) {
	near, far := io.Pipe()
	defer near.Close()
	r := mcp.NewLineReader(near, nil, 10)
	go far.Write([]byte("{}\n"))
	if line, err := r.Next(); err != nil || string(line) != "{}" {
		t.Errorf("got %q, %v", line, err)
	}
	go far.Write([]byte(strings.Repeat("x", 100)))
	if line, err := r.Next(); err != mcp.ErrLineTooLong {
		t.Errorf("got %q, %v", line, err)
	}
	go far.Write([]byte("xx\n{}\n"))
	if line, err := r.Next(); err != nil || string(line) != "{}" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestLineReaderPassesErrorsOn(t *testing.T) {
	broken := errors.New("reset")
	c := cut("a\nb\nc")
	c.err = broken
	if got, err := readLines(t, c, 100); err != broken || !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
	c = cut()
	c.err = nil
	if _, err := readLines(t, c, 100); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

func TestLineReaderSharesItsBuffer(t *testing.T) {
	c := cut("{}\n[]\r\n")
	r := mcp.NewLineReader(c, nil, 100)
	for _, offset := range []int{0, 3} {
		line, err := r.Next()
		if err != nil || &line[0] != &c.last[0][offset] {
			t.Errorf("%q is a copy, %v", line, err)
		}
		if cap(line) != 2 {
			t.Errorf("an append to %q would write into the stream", line)
		}
	}
	r.Close()
	r.Close()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
}

// TestLineReaderWaitsInASmallBuffer checks the size of the buffer of each Read.
func TestLineReaderWaitsInASmallBuffer(t *testing.T) {
	c := cut("x\n", strings.Repeat("x", 5000)+"\n", "x\n", strings.Repeat("x", 20_000), "\n", "x\n")
	got, err := readLines(t, c, 10_000)
	if err != io.EOF || len(got) != 5 {
		t.Fatalf("%d lines, %v", len(got), err)
	}
	want := []int{1 << 10, 1 << 10, 1 << 10, 1 << 11, 1 << 12, 1 << 10, // up to the line after the first long one
		1 << 10, 1 << 10, 1 << 11, 1 << 12, 1 << 13, // 16 KiB are too long
		1 << 10, 1 << 10, 1 << 10, 1 << 10} // the rest is skipped
	if len(c.sizes) < len(want) || !reflect.DeepEqual(c.sizes[:11], want[:11]) {
		t.Errorf("got %v\nwant %v", c.sizes, want)
	}
	for _, size := range c.sizes[11:] {
		if size != 1<<10 {
			t.Errorf("got %v after a line that was too long", c.sizes[11:])
		}
	}
}

// TestLineReaderIsLinear reads a line byte by byte that takes more than the deadline in quadratic time.
func TestLineReaderIsLinear(t *testing.T) {
	const size = 2 << 20
	start := time.Now()
	r := mcp.NewLineReader(iotest.OneByteReader(strings.NewReader(strings.Repeat("x", size)+"\n")), nil, size)
	defer r.Close()
	line, err := r.Next()
	if err != nil || len(line) != size || time.Since(start) > 15*time.Second {
		t.Errorf("%d bytes, %v after %v", len(line), err, time.Since(start))
	}
}

// FuzzLineReader cuts a stream in pieces and compares with the whole and with the reference.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("{}\r\n\n[1,2]\nx\r"), []byte{1, 2}, uint16(5))
	f.Add([]byte(strings.Repeat("x", 3000)+"\r\n{}\n"+strings.Repeat("y", 3001)), []byte{255}, uint16(3000))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, limit uint16) {
		want := referenceLines(string(stream), int(limit))
		for _, c := range []*chunks{{left: [][]byte{stream}, err: io.EOF}, {left: cutBy(stream, sizes), err: io.EOF}} {
			given := fmt.Sprintf("%q", c.left)
			got, err := readLines(t, c, int(limit))
			if err != io.EOF || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, limit %d: got %q, %v\nwant %q", given, limit, got, err, want)
			}
		}
	})
}
