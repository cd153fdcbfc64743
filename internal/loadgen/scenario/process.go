package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/loadgen/localtools"
)

// Bounds of processes.
const (
	startTimeout = 30 * time.Second
	endTimeout   = 20 * time.Second
	pollEvery    = 10 * time.Millisecond
)

// process is one that was started here. It ends when its standard input is closed or by SIGTERM, else it is killed.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
	log   string // the file that it logs to
}

// start starts a process that logs to a file of dir.
func start(dir, name string, command []string, stdout io.Writer) (*process, error) {
	p := &process{name: name, ended: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, log
	p.cmd.SysProcAttr = loadgen.EndsWithParent() // also where this program is killed
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is told where it was waited for
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end ends the process and returns when it has.
func (p *process) end() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	late := time.AfterFunc(endTimeout, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
}

// awaits polls until a condition holds. It says so where the process ends before that, or takes too long.
func (p *process) awaits(ctx context.Context, within time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s is not ready after %v", p.name, within))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.logEnd())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// logEnd returns the end of its log.
func (p *process) logEnd() string {
	text, _ := os.ReadFile(p.log) // without it there is less to say
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// directory makes a directory for sockets and files, whose path is short enough for a socket's.
func directory() (string, error) {
	const prefix = "fluentd-perf-benchmark-"
	parent := os.TempDir()
	if api.CheckPath(filepath.Join(parent, prefix+"4294967295", "daemon-again-99", "admin.sock")) != nil { // MkdirTemp adds 32 bits
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, prefix)
}

// serverProcess is the scripted server.
type serverProcess struct {
	*process
	address string
}

// startServer starts the scripted server, which says in one line of JSON where it listens.
func startServer(ctx context.Context, dir string, command []string) (*serverProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := start(dir, "server", command, w)
	_ = w.Close() // the process has the other
	if err != nil {
		return nil, err
	}
	said := make(chan []byte, 1)
	go func() {
		line, _ := bufio.NewReader(r).ReadBytes('\n')
		said <- line
	}()
	var line []byte
	err = p.awaits(ctx, startTimeout, func() bool {
		select {
		case line = <-said:
			return true
		default:
			return false
		}
	})
	var at fastserver.Listening
	if err == nil {
		err = json.Unmarshal(line, &at)
	}
	if err != nil {
		p.end()
		return nil, fmt.Errorf("the benchmark's server: %w", err)
	}
	return &serverProcess{p, at.Address}, nil
}

// counts returns what the server saw so far.
func (s *serverProcess) counts(ctx context.Context) (c fastserver.Counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+fastserver.CountsPath, nil)
	if err != nil {
		return c, err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	return c, json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&c)
}

// daemonProcess is a daemon that was started here.
type daemonProcess struct {
	*process
	address string // host:port, or a socket's path
	unix    bool
	version string
	admin   string // its admin socket
}

// startDaemon starts a daemon with a configuration. It logs at level warn, as one that is used for speed does.
func startDaemon(ctx context.Context, dir, name string, o *Options, yaml string) (*daemonProcess, error) {
	own := filepath.Join(dir, name)
	if err := os.Mkdir(own, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(own, "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return nil, err
	}
	d := &daemonProcess{unix: o.UnixSocket, admin: filepath.Join(own, "admin.sock")}
	listen := "127.0.0.1:0"
	if d.unix {
		listen = "unix:" + filepath.Join(own, "http.sock")
	}
	args := []string{"serve", "--config", file, "--listen", listen, "--state-dir", filepath.Join(own, "state"), "--runtime-dir", own, "--log-level", "warn"}
	var err error
	if d.process, err = start(dir, name, append(append([]string(nil), o.Program...), args...), nil); err != nil {
		return nil, err
	}
	var status api.Status
	err = d.awaits(ctx, startTimeout, func() bool { return api.Call(ctx, d.admin, api.CallStatus, api.StatusParams{}, &status) == nil })
	if err == nil && len(status.Addresses) == 0 {
		err = errors.New("it listens nowhere")
	}
	if err != nil {
		d.end()
		return nil, fmt.Errorf("the daemon: %w", err)
	}
	d.address, d.version = strings.TrimPrefix(status.Addresses[0], "unix:"), status.Version
	return d, nil
}

// target returns an upstream of the daemon's; kind is mcp or rpc.
func (d *daemonProcess) target(kind, upstream string) (*loadgen.Target, error) {
	if d.unix {
		return loadgen.NewTarget("http://localhost/"+kind+"/"+upstream, d.address)
	}
	if _, _, err := net.SplitHostPort(d.address); err != nil {
		return nil, err
	}
	return loadgen.NewTarget("http://"+d.address+"/"+kind+"/"+upstream, "")
}

// secretFile is, in a directory with the files of the local tools, the path under which HTTP reaches them.
const secretFile = "path"

// extraOf returns the local tools over the files of a directory; without one there are none.
func extraOf(dir string) (fastserver.Extra, error) {
	if dir == "" {
		return fastserver.Extra{}, nil
	}
	secret, err := os.ReadFile(filepath.Join(dir, secretFile))
	return fastserver.Extra{Path: string(secret), Names: localtools.Names(), Run: func(ctx context.Context, name string) (string, error) {
		return localtools.Run(ctx, dir, name)
	}}, err
}

// ServeLines is the scripted server as a command: it answers lines of in on out until in ends. dir is the directory of the local tools,
// "" for none.
func ServeLines(dir string, in io.Reader, out io.Writer) error {
	extra, err := extraOf(dir)
	if err != nil {
		return err
	}
	s := fastserver.NewWith(extra)
	defer s.Close()
	return s.ServeLines(in, out)
}

// ServeOwn is the scripted server as a process: it listens on a free port of 127.0.0.1, says where in one line of JSON, and ends when
// in does. dir is the directory of the local tools, "" for none.
func ServeOwn(dir string, in io.Reader, out io.Writer) error {
	extra, err := extraOf(dir)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := fastserver.NewWith(extra)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	line, err := json.Marshal(fastserver.Listening{Address: ln.Addr().String()})
	if err == nil {
		_, err = out.Write(append(bytes.TrimSpace(line), '\n'))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	err = errors.Join(err, ln.Close())
	<-served // the listener's end
	s.Close()
	return err
}
