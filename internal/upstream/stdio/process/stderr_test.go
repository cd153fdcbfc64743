package process

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged returns a stderr and what it has written to the log, a line each.
func logged(secrets ...string) (*stderr, func() []string) {
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "upstream" || a.Key == "pid" {
			return slog.Attr{}
		}
		return a
	}}))
	return newStderr(&lineLog{name: "s", log: log}, secrets), func() []string {
		return strings.Split(strings.TrimSpace(buf.String()), "\n")
	}
}

// TestStderrLines holds what becomes of bytes: lines, cut, masked, the last ones kept.
func TestStderrLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		pieces []string
		want   []string // of the tail
	}{
		"lines":             {[]string{"a\nb\r\n\nc"}, []string{"a", "b", "c"}},
		"pieces":            {[]string{"a", "b", "\n", "c\n"}, []string{"ab", "c"}},
		"a secret":          {[]string{"the token is top-secret!\n"}, []string{"the token is [masked]!"}},
		"in pieces":         {[]string{"top-", "sec", "ret\n"}, []string{"[masked]"}},
		"of several lines":  {[]string{"-----first-----\nsecond-line\n"}, []string{"[masked]", "[masked]"}},
		"short ones":        {[]string{"short\n"}, []string{"short"}},
		"half of a secret":  {[]string{"it is top-se"}, []string{"it is [masked]"}},
		"long":              {[]string{long, "y", "z\nnext\n"}, []string{long[:tailLine], "next"}},
		"exactly long":      {[]string{long, "\nnext\n"}, []string{long[:tailLine], "next"}},
		"a cut letter":      {[]string{strings.Repeat("x", tailLine-1) + "ä\n"}, []string{strings.Repeat("x", tailLine-1)}},
		"more than is kept": {[]string{"gone\n", strings.Repeat("a\nb\n", tailLines/2)}, slices.Repeat([]string{"a", "b"}, tailLines/2)},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := logged("top-secret", "short", "-----first-----\nsecond-line\n")
			for _, piece := range c.pieces {
				s.write([]byte(piece))
			}
			if got := s.lines(); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestStderrLastLines holds that what was written before the end of the leader is known by then, whoever holds the pipe open still, and
// what those write is read until they have ended, too.
func TestStderrLastLines(t *testing.T) {
	for range 100 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := logged()
		p := &Process{errors: r, stderr: s, drained: make(chan struct{})}
		var reading sync.WaitGroup
		reading.Go(p.readStderr)
		write := func(text string) {
			if _, err := w.WriteString(text); err != nil {
				t.Error(err)
			}
		}
		last := func() string { lines := s.lines(); return lines[len(lines)-1] }
		write(strings.Repeat("a line\n", 1000) + "the last one\n")
		_ = r.SetReadDeadline(time.Now())
		<-p.drained
		if got := last(); got != "the last one" {
			t.Errorf("got %q", got)
		}
		write("another's\n")
		for end := time.Now().Add(20 * time.Second); last() != "another's"; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("got %q", last())
			}
		}
		_ = r.SetReadDeadline(time.Now())
		reading.Wait()
		w.Close()
		r.Close()
		if t.Failed() {
			return
		}
	}
}

// TestStderrCutSecret holds that no part of a secret stands where a line was cut within it.
func TestStderrCutSecret(t *testing.T) {
	s, log := logged("top-secret")
	s.write([]byte(strings.Repeat("x", maxLine-5) + "top-secret\n"))
	if line := log()[0]; strings.Contains(line, "top-s") || !strings.HasSuffix(line, "x[masked]") {
		t.Errorf("the line ends in %q", line[len(line)-20:])
	}
}

// TestStderrLog holds how many lines of a server the log gets.
func TestStderrLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := logged()
		write := func(lines ...string) { s.write([]byte(strings.Join(lines, "\n") + "\n")) }
		check := func(want ...string) {
			t.Helper()
			got := log()
			if got = got[max(0, len(got)-len(want)):]; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		const message = `msg="stderr of a server" line=`
		write("a", "a", "a", "b")
		check(message+"a", `msg="stderr of a server: the last line again" times=2`, message+"b")
		for i := range 30 {
			write(strings.Repeat("c", i+1))
		}
		if n := len(log()); n != windowLines {
			t.Errorf("%d lines in a window", n)
		}
		if n := s.log.droppedLines(); n != 13 {
			t.Errorf("%d lines are counted as dropped", n)
		}
		time.Sleep(window) // false time
		write("d")
		check(`msg="stderr of a server: lines were left out" lines=13`, message+"d")
		write("d")
		s.log.flush(0)
		check(message+"d", `msg="stderr of a server: the last line again" times=1`)
	})
}

// TestStderrFlood holds that a server that repeats itself for ever costs no line, and one without newlines no memory.
func TestStderrFlood(t *testing.T) {
	s, log := logged()
	for range 1000 {
		s.write([]byte("again\n"))
	}
	for range 100 {
		s.write(bytes.Repeat([]byte("x"), 64<<10))
	}
	if n := len(log()); n > 3 || cap(s.line) > 2*maxLine {
		t.Errorf("%d lines in the log, %d bytes of buffer", n, cap(s.line))
	}
}
