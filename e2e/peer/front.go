package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The environment of front. The conformance suite runs a client's command with the server's URL as its last argument
// and hands its own environment on.
const (
	frontDaemon  = "PEER_FRONT_DAEMON"  // the daemon's binary; empty: the client goes to the server directly
	frontTracks  = "PEER_FRONT_TRACKS"  // a folder of lock files: as many clients run at once as there are
	frontReports = "PEER_FRONT_REPORTS" // a folder: a daemon that did not end well leaves what it printed there
)

// frontTimeout bounds each wait for the daemon, whose start takes seconds where a suite starts forty at once.
const frontTimeout = 60 * time.Second

// front runs a client, whose last argument is a server's URL, with a daemon between the two that lives as long as the
// client does. The client's exit code is front's own.
func front(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("front CLIENT [ARGUMENT...] URL")
	}
	track, err := takeTrack(os.Getenv(frontTracks)) // a signal ends it
	if err != nil {
		return err
	}
	defer track.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if os.Getenv(frontDaemon) == "" {
		return runClient(ctx, args)
	}
	return runFronted(ctx, args)
}

// takeTrack waits until one of the folder's files is free and locks it. Closing it frees it. Forty wait at the same time: the first of them
// looks, the others wait for the folder, of which the system tells them.
func takeTrack(folder string) (io.Closer, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no tracks in %q: %w", folder, err)
	}
	first, err := lockFile(folder, 0)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	for {
		for _, name := range files {
			if file, err := lockFile(name, syscall.LOCK_NB); err == nil {
				return file, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lockFile locks a file or folder, with LOCK_NB at once or it fails. Children do not inherit the lock: Go opens files with O_CLOEXEC.
func lockFile(name string, how int) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|how)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func runClient(ctx context.Context, args []string) error {
	client := exec.CommandContext(ctx, args[0], args[1:]...)
	client.Stdout, client.Stderr = os.Stdout, os.Stderr
	return client.Run()
}

func runFronted(ctx context.Context, args []string) error {
	last := len(args) - 1
	daemon, err := startFront(ctx, args[last])
	if err != nil {
		return err
	}
	args[last] = daemon.url
	return errors.Join(runClient(ctx, args), daemon.stop())
}

// frontProcess is a daemon in front of one server.
type frontProcess struct {
	cmd    *exec.Cmd
	folder string // its state, its sockets, and what it printed
	url    string // where an agent finds the server
	ended  chan error
}

func startFront(ctx context.Context, server string) (*frontProcess, error) {
	folder, err := os.MkdirTemp("", "fp")
	if err != nil {
		return nil, err
	}
	for range 5 { // somebody else may take the port first
		var f *frontProcess
		if f, err = launchFront(folder, server); err != nil {
			break
		}
		if err = f.ready(ctx); err == nil {
			return f, nil
		}
		err = errors.Join(err, f.cmd.Process.Kill(), <-f.ended)
	}
	return nil, errors.Join(err, os.RemoveAll(folder))
}

func launchFront(folder, server string) (*frontProcess, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	printed, err := os.Create(filepath.Join(folder, "printed"))
	if err != nil {
		return nil, err
	}
	defer printed.Close()
	f := &frontProcess{folder: folder, url: "http://" + address + "/mcp/up", ended: make(chan error, 1)}
	f.cmd = exec.Command(os.Getenv(frontDaemon), "serve", "--listen", address, "--log-level", "warn",
		"--state-dir", folder, "--runtime-dir", folder, "--upstream", "up="+server)
	f.cmd.Stdout, f.cmd.Stderr = printed, printed
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { f.ended <- f.cmd.Wait() }()
	return f, nil
}

// freeAddress returns an address on which nobody listens just now, with a port outside the range from which the kernel takes those of
// outgoing connections and of listeners that name none: it would give the same one to another front, whose daemon is then taken for
// this one's.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.IntN(12000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

func (f *frontProcess) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, frontTimeout)
	defer cancel()
	probe := strings.TrimSuffix(f.url, "/mcp/up") + "/readyz"
	for {
		if isReady(ctx, probe) {
			return nil
		}
		select {
		case err := <-f.ended:
			f.ended <- err
			return fmt.Errorf("the daemon ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the daemon is not ready: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func isReady(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// stop ends the daemon as a service manager would, and reports one that did not end well.
func (f *frontProcess) stop() error {
	err := f.end()
	printed, readErr := os.ReadFile(filepath.Join(f.folder, "printed"))
	if err == nil && readErr == nil && !strings.Contains(string(printed), "DATA RACE") {
		return os.RemoveAll(f.folder)
	}
	report := filepath.Join(os.Getenv(frontReports), filepath.Base(f.folder))
	text := fmt.Sprintf("%s %s: %v\n%s", os.Getenv("MCP_CONFORMANCE_SCENARIO"), f.url, errors.Join(err, readErr), printed)
	return errors.Join(err, readErr, os.WriteFile(report, []byte(text), 0o600), os.RemoveAll(f.folder))
}

func (f *frontProcess) end() error {
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-f.ended:
		return err
	case <-time.After(frontTimeout):
		return errors.Join(fmt.Errorf("still there after %v", frontTimeout), f.cmd.Process.Kill(), <-f.ended)
	}
}
