package mcptest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Stdio is a scripted stdio server within the test's process: fit for false time. It is a stdio.Process.
type Stdio struct {
	stdin, stdout  *pipe
	lines          *bufio.Reader
	done           chan struct{}
	exit           string
	once, stopOnce sync.Once
	Stopped        chan struct{} // closed when it is asked to stop
	IgnoreStop     bool          // it does not end when it is asked to: End ends it
	LastLines      []string      // of its stderr
	writing        sync.Mutex
}

// pipe is one direction.
type pipe struct {
	*io.PipeReader
	*io.PipeWriter
}

// NewStdio starts a server that runs the script, and ends when that returns.
func NewStdio(script func(*Stdio)) *Stdio {
	s := &Stdio{stdin: newPipe(), stdout: newPipe(), done: make(chan struct{}), Stopped: make(chan struct{})}
	s.lines = bufio.NewReader(s.stdin.PipeReader)
	go func() {
		script(s)
		s.End("exit status 0")
	}()
	return s
}

func newPipe() *pipe {
	r, w := io.Pipe()
	return &pipe{r, w}
}

// End ends the process, as a signal would.
func (s *Stdio) End(exit string) {
	s.once.Do(func() {
		s.exit = exit
		close(s.done)
		_ = s.stdin.PipeReader.Close()
		_ = s.stdout.PipeWriter.Close()
	})
}

// Line returns the next line that came, false at the end.
func (s *Stdio) Line() (string, bool) {
	line, err := s.lines.ReadString('\n')
	return line, err == nil
}

// StdioRequest is a message as a script sees it.
type StdioRequest struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name, URI string
		Arguments map[string]any
		Meta      struct{ ProgressToken json.RawMessage } `json:"_meta"`
		RequestID json.RawMessage
	}
	Result, Error json.RawMessage
	Line          string `json:"-"`
}

// Next returns the next message that came, false at the end.
func (s *Stdio) Next() (r StdioRequest, ok bool) {
	line, ok := s.Line()
	if !ok {
		return r, false
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		panic("mcptest: a stdio server got what is no message: " + line)
	}
	r.Line = line
	return r, true
}

// Write writes bytes to stdout.
func (s *Stdio) Write(format string, args ...any) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, _ = fmt.Fprintf(s.stdout.PipeWriter, format, args...) // nobody may read any more
}

// Result answers a request.
func (s *Stdio) Result(r StdioRequest, result string) {
	s.Write(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", r.ID, result)
}

// Initialize answers an initialize with that version and what it declares.
func (s *Stdio) Initialize(r StdioRequest, version string) {
	s.Result(r, `{"protocolVersion":"`+version+`","capabilities":{"tools":{"listChanged":true},"logging":{}},"serverInfo":{"name":"scripted","version":"1"}}`)
}

// Stdin returns the other end of standard input.
func (s *Stdio) Stdin() io.WriteCloser { return s.stdin.PipeWriter }

// Stdout returns the other end of standard output.
func (s *Stdio) Stdout() io.ReadCloser { return s.stdout.PipeReader }

// CloseStdout closes standard output alone.
func (s *Stdio) CloseStdout() { _ = s.stdout.PipeWriter.Close() }

// Done is closed when it has ended.
func (s *Stdio) Done() <-chan struct{} { return s.done }

// Gone is closed with Done.
func (s *Stdio) Gone() <-chan struct{} { return s.done }

// Exit says how it ended.
func (s *Stdio) Exit() string { return s.exit }

// Killed reports whether Exit says that somebody's signal ended it.
func (s *Stdio) Killed() bool { return killed(s.exit) }

// killed reports whether an exit is by a signal that others send, and no crash.
func killed(exit string) bool { return exit == "signal: killed" || exit == "signal: terminated" }

// Stderr returns LastLines.
func (s *Stdio) Stderr() []string { return s.LastLines }

// Stop asks it to end, which it does at once unless IgnoreStop.
func (s *Stdio) Stop() {
	s.stopOnce.Do(func() { close(s.Stopped) })
	if !s.IgnoreStop {
		s.End("signal: terminated")
	}
}
