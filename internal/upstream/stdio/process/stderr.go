package process

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of what a server's stderr may cost.
const (
	readSize     = 4 << 10 // bytes that are read at once
	maxPipe      = 1 << 20 // bytes that are in a pipe at most, unless root has changed that
	maxLine      = 8 << 10 // bytes of a line; the rest of it is skipped
	tailLines    = 20      // lines that are kept for errors
	tailLine     = 512     // bytes of each
	windowLines  = 20      // lines of a server in the log in a window
	window       = 10 * time.Second
	minSecret    = 8 // bytes; shorter values are words that lines contain by chance
	shownSecret  = 2 // bytes; the first ones at the end of a line that goes on may be any word's
	maskedSecret = "[masked]"
)

// stderr reads what one process writes there, for as long as somebody holds the pipe open: a full pipe blocks a server. Memory is
// bounded whatever it writes.
type stderr struct {
	secrets []string
	mask    *strings.Replacer
	log     *lineLog
	pid     int // written before the first read

	mu   sync.Mutex // guards the following
	line []byte     // the line so far, at most maxLine bytes
	skip bool       // the rest of the line is skipped
	tail []string
}

func newStderr(log *lineLog, values []string) *stderr {
	secrets := secretsOf(values)
	return &stderr{log: log, secrets: secrets, mask: replacer(secrets)}
}

// Mask returns a text in which none of the values of 8 characters and more stands.
func Mask(text string, values []string) string { return replacer(secretsOf(values)).Replace(text) }

// secretsOf returns what is masked, the longest first: the whole before its parts.
func secretsOf(values []string) (secrets []string) {
	for _, value := range values {
		for line := range strings.Lines(value) { // a key in several lines is written in several lines
			if line = strings.TrimRight(line, "\r\n"); len(line) >= minSecret {
				secrets = append(secrets, line)
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets
}

func replacer(secrets []string) *strings.Replacer {
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, maskedSecret)
	}
	return strings.NewReplacer(pairs...)
}

// drain reads to the end of file, or to the read deadline, and reports whether it was that.
func (t *stderr) drain(r io.Reader) (late bool) {
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		t.write(buf[:n])
		if err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// drainNow reads what is in the pipe and waits for nothing, and reports whether more may come. Where somebody writes all the time it
// reads as much as a pipe may hold.
func (t *stderr) drainNow(f *os.File) (goesOn bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	buf := make([]byte, readSize)
	for range maxPipe / readSize {
		n, err := 0, error(nil)
		if closed := raw.Read(func(fd uintptr) bool { n, err = syscall.Read(int(fd), buf); return true }); closed != nil {
			return false
		}
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		case err != nil || n == 0:
			return false
		default:
			t.write(buf[:n])
		}
	}
	return true
}

// end ends the last line.
func (t *stderr) end() {
	t.write([]byte("\n"))
	t.log.flush(t.pid)
}

// Write is for exec.Cmd.
func (t *stderr) Write(b []byte) (int, error) {
	t.write(b)
	return len(b), nil
}

func (t *stderr) write(b []byte) {
	for len(b) > 0 {
		piece, rest, ended := bytes.Cut(b, []byte("\n"))
		if line, ok := t.add(piece, ended); ok {
			t.log.add(t.pid, line)
		}
		b = rest
	}
}

// add appends to the line and returns it where it is whole, or as long as a line may be.
func (t *stderr) add(piece []byte, ended bool) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := maxLine - len(t.line)
	over := len(piece) > room
	if !t.skip {
		t.line = append(t.line, piece[:min(len(piece), room)]...)
	}
	if t.skip || !ended && !over {
		t.skip = t.skip && !ended
		return "", false
	}
	line := t.masked(over)
	t.line, t.skip = t.line[:0], over && !ended
	if line == "" {
		return "", false
	}
	if len(t.tail) == tailLines {
		t.tail = append(t.tail[:0], t.tail[1:]...)
	}
	t.tail = append(t.tail, cut(line))
	return line, true
}

// masked returns the line without secrets. Where the line goes on, it may end within one. The caller holds mu.
func (t *stderr) masked(goesOn bool) string {
	line := t.mask.Replace(strings.TrimRight(string(t.line), "\r"))
	if !goesOn {
		return line
	}
	within := 0 // bytes at the end that begin a secret
	for _, secret := range t.secrets {
		for n := min(len(secret)-1, len(line)); n > max(within, shownSecret); n-- {
			if strings.HasSuffix(line, secret[:n]) {
				within = n
			}
		}
	}
	if within > 0 {
		return line[:len(line)-within] + maskedSecret
	}
	return line
}

// lines returns the last ones, and the one that is being written.
func (t *stderr) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := slices.Clone(t.tail)
	if line := t.masked(true); line != "" {
		lines = append(lines, cut(line))
	}
	return lines[max(0, len(lines)-tailLines):]
}

func cut(line string) string {
	if len(line) <= tailLine {
		return line
	}
	return strings.ToValidUTF8(line[:tailLine], "")
}

// lineLog is the log of one server's stderr, over all its processes.
type lineLog struct {
	name string
	log  *slog.Logger

	mu       sync.Mutex // guards the following
	began    time.Time  // of the window
	written  int        // lines in the window
	lost     int        // lines that were not written and not yet said to be
	dropped  uint64     // lines that were not written, ever
	last     string
	repeated int // how often last came again without being written
}

// add writes a line, or counts it.
func (l *lineLog) add(pid int, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(pid)
	if line == l.last {
		l.repeated++
		return
	}
	l.flushLocked(pid)
	l.last = line
	if l.written == windowLines {
		l.lost++
		l.dropped++
		return
	}
	l.written++
	l.log.Info("stderr of a server", "upstream", l.name, "pid", pid, "line", line)
}

// turnLocked begins a new window where the old one has passed, and says what the old one held back.
func (l *lineLog) turnLocked(pid int) {
	if now := time.Now(); now.Sub(l.began) >= window {
		l.began, l.written = now, 0
		l.flushLocked(pid)
	}
}

func (l *lineLog) flush(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked(pid)
}

// flushLocked says what was held back, if there is room for that.
func (l *lineLog) flushLocked(pid int) {
	if l.repeated > 0 && l.written < windowLines {
		l.written++
		l.log.Info("stderr of a server: the last line again", "upstream", l.name, "pid", pid, "times", l.repeated)
		l.repeated, l.last = 0, ""
	}
	if l.lost > 0 && l.written < windowLines {
		l.written++
		l.log.Warn("stderr of a server: lines were left out", "upstream", l.name, "pid", pid, "lines", l.lost)
		l.lost = 0
	}
}

func (l *lineLog) droppedLines() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}
