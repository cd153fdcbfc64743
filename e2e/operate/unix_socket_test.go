package operate

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestManagersUnixSocket: a Unix socket of the service manager's is served, keeps its mode, and stays when the daemon goes.
func TestManagersUnixSocket(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	dir, err := os.MkdirTemp("", "u") // a short path: a Unix socket's has about 100 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	socket, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	at := harness.NewFolders(t)
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, harness.DaemonBinary, "serve", "--upstream", "s=" + s.URL()}, at.Args()...)...)
	cmd.Env = append(append(os.Environ(), at.Env()...), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr, cmd.ExtraFiles = harness.ChildAttributes(), []*os.File{socket}
	d := &harness.Daemon{Process: harness.StartCommand(t, cmd), T: t}
	_ = socket.Close()
	d.Announced(t, "(addresses=.?unix:"+path+")")

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	res, err := client.Post("http://any/mcp/s", "application/json", strings.NewReader(harness.Request("1", "tools/list")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"result"`) {
		t.Errorf("%s %s, %v", res.Status, body, err)
	}
	d.Signal(syscall.SIGTERM)
	if code := d.Exit(harness.MaxWait); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o660|os.ModeSocket {
		t.Errorf("the manager's socket: %v, %v", info, err)
	}
}
