package daemon

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/upstream/stdio/login"
)

// callAs is set in the process that makes a call for a test: the address.
const callAs = "FLUENTD_PERF_TEST_CALL"

func TestMain(m *testing.M) {
	login.PrintIfAsked()
	runChild()
	if addr := os.Getenv(callAs); addr != "" {
		fmt.Println(statusAsked(addr))
		return
	}
	os.Exit(m.Run())
}

// statusAsked makes two calls over one connection, and returns their statuses, and the text of the second's answer.
func statusAsked(addr string) string {
	nc, err := dial(addr)
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	answers := bufio.NewReader(nc)
	var said []string
	for range 2 {
		fmt.Fprintf(nc, "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(aCall), aCall)
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err.Error()
		}
		text := make([]byte, max(0, res.ContentLength))
		_, _ = res.Body.Read(text)
		said = append(said, fmt.Sprint(res.StatusCode, " ", strings.TrimSpace(string(text))))
	}
	return strings.Join(said, "; ")
}

// statusAs makes the calls from another process, as a user.
func statusAs(t *testing.T, uid int, addr string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // which others may run, wherever it lies
	cmd.Env = append(os.Environ(), callAs+"="+addr)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestStrangers: a private upstream is for the daemon's user and for whom it is said to be, over each kind of listener; the daemon's
// other upstreams are for everybody. Only root can be somebody else: for others the test ends with their own calls.
func TestStrangers(t *testing.T) {
	const stranger, friend = 65534, 65533
	dir, err := os.MkdirTemp("/tmp", "strangers") // where others may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", unixScheme + filepath.Join(dir, "s")} {
		d := assembledAt(t, "http://127.0.0.1:1/mcp", address)
		if path, ok := strings.CutPrefix(address, unixScheme); ok {
			if err := os.Chmod(path, 0o666); err != nil { // as a service manager's socket may be
				t.Fatal(err)
			}
		}
		var calls atomic.Int64
		u := proxy.Route{Name: "s", Caller: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
			calls.Add(1)
			return &mcp.Result{Status: http.StatusOK, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte("{}")}, nil
		})}
		d.start()
		ask := func(privateTo []uint32, uid int, want string) {
			t.Helper()
			u.PrivateTo = privateTo
			if err := d.handler.Swap([]proxy.Route{u}); err != nil {
				t.Fatal(err)
			}
			before := calls.Load()
			got := statusAs(t, uid, d.addresses()[0])
			served := calls.Load() - before
			if !strings.HasPrefix(got, want) || strings.Count(got, want) != 2 || served != 2 && want == "200" || served != 0 && want == "403" {
				t.Errorf("%s, private to %v, user %d: %q, %d calls; want %s", address, privateTo, uid, got, served, want)
			}
			if want == "403" && !strings.Contains(got, "allow_users") {
				t.Errorf("%q names no key", got)
			}
		}
		own := uint32(os.Getuid())
		ask([]uint32{own}, os.Getuid(), "200")
		if own == 0 {
			ask([]uint32{own}, stranger, "403")
			ask([]uint32{own, friend}, friend, "200")
			ask([]uint32{own, friend}, stranger, "403")
			ask([]uint32{friend}, 0, "200")
			ask(nil, stranger, "200")
		}
		if err := d.drain(time.Minute); err != nil {
			t.Error(err)
		}
	}
}

// TestUserIsAskedForOnce holds that the kernel is asked once a connection, and that a connection nobody knows has no user.
func TestUserIsAskedForOnce(t *testing.T) {
	var all connections
	own, other := accepted(t, &all)
	for range 2 {
		if uid, err := own.user(); err != nil || uid != uint32(os.Getuid()) {
			t.Errorf("user %d, %v", uid, err)
		}
		other.(*net.TCPConn).Close() // nobody's from now on, if it were asked again
	}
	late, gone := accepted(t, &all)
	gone.Close()
	if uid, err := late.user(); err == nil {
		t.Errorf("user %d of a socket that was closed", uid)
	}
	if uid, err := userOf(new(http.Request)); err == nil {
		t.Errorf("user %d of no connection", uid)
	}
}

// TestPrivateTo holds which servers are private, and to whom.
func TestPrivateTo(t *testing.T) {
	if got := privateTo(nil); got != nil {
		t.Errorf("a server that is reached by HTTP is private to %v", got)
	}
	own := uint32(os.Geteuid())
	for _, tt := range []struct {
		allowed []config.User
		want    []uint32
	}{{nil, []uint32{own}}, {[]config.User{{Name: "a", UID: 1}, {Name: "b", UID: 2}}, []uint32{own, 1, 2}}} {
		if got := privateTo(&config.Stdio{AllowUsers: tt.allowed}); !slices.Equal(got, tt.want) {
			t.Errorf("private to %v, want %v", got, tt.want)
		}
	}
}
