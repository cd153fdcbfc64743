package loadgen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"fluentd-perf/internal/mcp"
)

// Command is a server over stdin and stdout (2025-11-25 and 2026-07-28, basic/transports, stdio), a line for each message. Each
// client of such a target has a process of its own, with the environment of this program, as agents start them.
type Command struct {
	Args []string // the program and its arguments; no shell reads them
}

// NewCommandTarget returns the target that a command is.
func NewCommandTarget(c Command) *Target {
	return &Target{Command: &c, Host: c.Args[0], Era: mcp.EraModern}
}

// How long a process may take to end by itself, and by SIGTERM (2025-11-25, basic/lifecycle, Shutdown).
const stopTimeout = 2 * time.Second

// processConn is the connection to the process of a client. Reads and writes are those of its stdout and stdin.
type processConn struct {
	cmd     *exec.Cmd
	in, out *os.File // our ends of the pipes
	stderr  tail
	ended   chan struct{} // closed when it has ended and was waited for
	closing sync.Once
}

// startCommand starts a process, as the leader of a group of its own.
func startCommand(c *Command) (net.Conn, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), in.Close())
	}
	p := &processConn{cmd: exec.Command(c.Args[0], c.Args[1:]...), in: in, out: out, ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, &p.stderr
	p.cmd.SysProcAttr = EndsWithParent()
	p.cmd.WaitDelay = stopTimeout // stderr may be held open by what it has started
	err = p.cmd.Start()
	_, _ = stdin.Close(), stdout.Close() // the process has them
	if err != nil {
		_, _ = in.Close(), out.Close() // nothing was written
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is looked at by endedBy
	}()
	return p, nil
}

func (p *processConn) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *processConn) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p *processConn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "stdio", Net: "unix"} }
func (p *processConn) RemoteAddr() net.Addr { return p.LocalAddr() }

func (p *processConn) SetDeadline(t time.Time) error {
	return errors.Join(p.out.SetDeadline(t), p.in.SetDeadline(t))
}
func (p *processConn) SetReadDeadline(t time.Time) error  { return p.out.SetDeadline(t) }
func (p *processConn) SetWriteDeadline(t time.Time) error { return p.in.SetDeadline(t) }

// Close ends the process: its stdin is closed, then its group gets SIGTERM, then SIGKILL. It returns when it has ended.
func (p *processConn) Close() error {
	p.closing.Do(func() {
		_ = p.in.Close() // nothing that was written is waited for any more
		if !p.endsIn(stopTimeout) {
			_ = syscall.Kill(-p.pid(), syscall.SIGTERM)
			p.endsIn(stopTimeout)
		}
		p.kill() // also what it has left behind in its group
		<-p.ended
		_ = p.out.Close()
	})
	return nil
}

func (p *processConn) pid() int { return p.cmd.Process.Pid }

// kill ends the process and its group at once. Close has to be called all the same.
func (p *processConn) kill() { _ = syscall.Kill(-p.pid(), syscall.SIGKILL) }

func (p *processConn) endsIn(d time.Duration) bool {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-p.ended:
		return true
	case <-late.C:
		return false
	}
}

// endedBy returns an error with how the process of a connection has ended, and the end of its stderr, where that is why nothing could
// be read or written; else err.
func endedBy(conn net.Conn, err error) error {
	p, ok := conn.(*processConn)
	if !ok || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EPIPE) || !p.endsIn(stopTimeout) {
		return err
	}
	said := p.stderr.String()
	if said != "" {
		said = "; its stderr ends with: " + said
	}
	return fmt.Errorf("the process has ended (%v)%s", p.cmd.ProcessState, said)
}

// maxTail is how many bytes of a process's stderr are kept.
const maxTail = 500

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[max(0, len(b)-maxTail):]...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-maxTail):]...)
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// line reads lines until one is the answer, which is the body then. What the server asks meanwhile is answered on reply: a ping as the
// protocol says, all else with an error. What is no message is skipped, as some servers log there.
func (r *answerReader) line(a *answer, reply io.Writer) error {
	*a = answer{status: 200}
	for {
		line, err := r.wholeLine()
		if err != nil {
			return noEOF(err)
		}
		var m mcp.Message
		switch err := mcp.Scan(line, &m); {
		case err != nil:
		case m.Kind.IsAnswer():
			a.body = line
			return nil
		case m.Kind == mcp.KindRequest:
			if err := refuse(reply, line, &m); err != nil {
				return err
			}
		default:
			a.told++
		}
	}
}

func refuse(reply io.Writer, line []byte, m *mcp.Message) error {
	rest := `,"error":{"code":-32601,"message":"method not found"}}`
	if m.Method == mcp.MethodPing {
		rest = `,"result":{}}`
	}
	_, err := fmt.Fprintf(reply, `{"jsonrpc":"2.0","id":%s%s`+"\n", m.ID.Of(line), rest)
	return err
}

// wholeLine returns a line of at most maxBody without its end, valid until the next one is read.
func (r *answerReader) wholeLine() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.buf = append(r.buf[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) && len(r.buf) <= maxBody {
			line, err = r.br.ReadSlice('\n')
			r.buf = append(r.buf, line...)
		}
		line = r.buf
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
