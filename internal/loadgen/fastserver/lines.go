package fastserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"fluentd-perf/internal/mcp"
)

// ServeLines answers messages that are lines, as a server over stdin and stdout does, until in ends, which is no error. The extra
// tools are there, whatever their path is. Those and Wait do not hold back other calls. Arrays get no answer.
func (s *Server) ServeLines(in io.Reader, out io.Writer) error {
	br := bufio.NewReaderSize(in, 64<<10)
	x := &exchange{server: s, lines: out}
	for {
		line, err := readLine(br)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := x.answerLine(line); err != nil {
			return err
		}
	}
}

// readLine returns a line of at most maxBody.
func readLine(br *bufio.Reader) (line []byte, err error) {
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSpace(line), err
		}
		if len(line) > maxBody {
			return nil, fmt.Errorf("a line of more than %d bytes", maxBody)
		}
	}
}

// answerLine answers one message. What is none, and what wants no answer, gets none.
func (x *exchange) answerLine(line []byte) error {
	var m mcp.Message
	if err := mcp.Scan(line, &m); err != nil || m.Kind != mcp.KindRequest {
		return nil
	}
	x.server.calls.Add(1)
	name := toolIn(line, &m)
	tool := x.server.ready[name]
	if !x.server.extra.has(name) && (tool == nil || !tool.tool.waits) {
		return x.writeLine(x.lineFor(name, line, &m))
	}
	if !x.server.begin(nil) {
		return nil
	}
	go func() {
		defer x.server.ended.Done()
		_ = x.writeLine(x.lineFor(name, line, &m)) // who reads it no more has left
	}()
	return nil
}

// lineFor returns the answer to a request, with its progress before it where it has some.
func (x *exchange) lineFor(name string, line []byte, m *mcp.Message) (out []byte) {
	r := x.server.ready[name]
	switch {
	case x.server.extra.has(name):
		return x.server.appendExtra(nil, name, m.ID.Of(line))
	case m.Method == mcp.MethodToolsList && x.server.extra.Run != nil:
		return x.server.extra.appendList(nil, m.ID.Of(line))
	case r == nil:
		return x.appendResult(nil, line, m)
	case r.tool.waits:
		x.server.wait(waitIn(line))
	case r.tool.stream:
		out = append(progressOf(line, m), '\n')
	}
	return r.append(out, m.ID.Of(line), keyIn(line))
}

// writeLine writes lines whole, whoever else does.
func (x *exchange) writeLine(line []byte) error {
	x.server.writing.Lock()
	defer x.server.writing.Unlock()
	_, err := x.lines.Write(append(line, '\n'))
	return err
}

// wait returns after a time, or when the server is closed.
func (s *Server) wait(d time.Duration) {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-late.C:
	case <-s.ctx.Done():
	}
}

// toolIn returns the name of the tool that a request calls; "" where it calls none.
func toolIn(body []byte, m *mcp.Message) string {
	if m.Method != mcp.MethodToolsCall {
		return ""
	}
	return string(unquoted(m.Name.Of(body)))
}
