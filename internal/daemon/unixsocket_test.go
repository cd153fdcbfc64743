package daemon

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
)

// TestUnixSocket is an agent's way over a Unix socket, from the file to its end.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agents.sock")
	d := assembledAt(t, mcptest.NewServer(t, mcptest.Minimal).URL(), unixScheme+path)
	d.start()
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600|fs.ModeSocket {
		t.Errorf("%v, %v", info, err)
	}
	if got := d.addresses(); len(got) != 1 || got[0] != unixScheme+path {
		t.Errorf("addresses %q", got)
	}
	if err := CheckHealth(t.Context(), unixScheme+path, time.Minute); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		path, host, origin string
		status             int
	}{
		{"/mcp/s", "localhost", "", 200}, {"/mcp/s", "docker", "", 200}, {"/mcp/s", "a.sock:1", "", 200}, {"/mcp/s", "", "", 200},
		{"/mcp/s", "localhost", "http://localhost", 200}, // a client that sets it by hand
		{"/mcp/s", "evil.example", "http://evil.example", 403}, {"/mcp/s", "localhost", "http://evil.example", 403}, {"/mcp/s", "localhost", "null", 403},
		{"/rpc/s", "any", "", 200}, {"/none", "any", "", 404},
	} {
		res := overUnix(t, path, tt.path, "Host: "+tt.host, tt.origin)
		if res.StatusCode != tt.status {
			t.Errorf("%+v: %s", tt, res.Status)
		}
	}
	if err := d.drain(time.Minute); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestWatchdogAndRights holds that a socket which the daemon's user may not use gets nobody killed, and that silence does.
func TestWatchdogAndRights(t *testing.T) {
	refused := &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if !isAlive(nil) || !isAlive(refused) {
		t.Error("a daemon that answers, or may not be asked, is taken for dead")
	}
	if gone := CheckHealth(t.Context(), unixScheme+filepath.Join(t.TempDir(), "none"), time.Minute); gone == nil || isAlive(gone) {
		t.Errorf("where nobody listens: %v", gone)
	}
}

// overUnix posts one call over a connection of its own.
func overUnix(t *testing.T, socket, path, host, origin string) *http.Response {
	t.Helper()
	nc, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if origin != "" {
		host += "\r\nOrigin: " + origin
	}
	body := aCall
	if strings.HasPrefix(path, "/rpc") {
		body = "[" + aCall + "]"
	}
	if _, err := fmt.Fprintf(nc, "POST %s HTTP/1.1\r\n%s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, host, len(body), body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Error(err)
	}
	return res
}

// TestUnixSocketIsNoTakeover: a daemon that lives keeps its socket, and what is no socket is never replaced.
func TestUnixSocketIsNoTakeover(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := assembledAt(t, "http://127.0.0.1:1/mcp", unixScheme+filepath.Join(dir, "s"))
	defer closeAll(taken.listeners)
	for path, text := range map[string]string{file: "not a socket", filepath.Join(dir, "s"): "choose another with --listen"} {
		_, _, err := openListeners(t.Context(), []config.Listen{{Address: "127.0.0.1:0"}, {Unix: path}}, taken.log)
		if err == nil || !strings.Contains(err.Error(), "listening on unix:"+path) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v", err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "keep" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestUnixSocketsOwnNames holds that agents are told apart by their connections, which have no names.
func TestUnixSocketsOwnNames(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all := agentListener{l, new(atomic.Uint64)}
	seen := map[string]bool{"": true, "@": true}
	for range 3 {
		nc, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		own, err := all.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		name := own.RemoteAddr().String()
		if seen[name] {
			t.Errorf("another one named %q", name)
		}
		seen[name] = true
	}
}
