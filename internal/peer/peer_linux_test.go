package peer_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/peer"
)

// dialAs is set in the process that dials for a test: the network and the address.
const dialAs = "FLUENTD_PERF_TEST_DIAL"

func TestMain(m *testing.M) {
	if network := os.Getenv(dialAs); network != "" {
		dial(network, os.Args[1])
		return
	}
	if at := os.Getenv(acceptAs); at != "" {
		network, address, _ := strings.Cut(at, " ")
		sayOwner(network, address)
		return
	}
	os.Exit(m.Run())
}

// dial connects, says so, and holds the connection until stdin ends.
func dial(network, address string) {
	c, err := net.Dial(network, address)
	if err != nil {
		os.Exit(1)
	}
	defer c.Close()
	_, _ = c.Write([]byte("x"))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// nobody is a user who is not the one that tests run as.
const nobody = 65534

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// accept returns the server's end of a connection that a process of the user's opens, after a byte has come.
func accept(t *testing.T, program string, l net.Listener, uid uint32) net.Conn {
	t.Helper()
	connectAs(t, program, l.Addr().Network(), l.Addr().String(), uid)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c
}

// connectAs has a process of the user's connect until the end of the test.
func connectAs(t *testing.T, program, network, address string, uid uint32) {
	t.Helper()
	cmd := exec.Command(program, address)
	cmd.Env = append(os.Environ(), dialAs+"="+network, "GORACE=atexit_sleep_ms=0") // no second of sleep at its end
	cmd.Dir = "/"
	if int(uid) != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// programForAll is this program where another user may run it.
func programForAll(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(publicDir(t), "dial")
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// publicDir is a directory that everybody may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOwner tells users apart, over each kind of socket. Only root can be another user: the rest of the table is for everybody.
func TestOwner(t *testing.T) {
	users := []uint32{uint32(os.Getuid())}
	if os.Getuid() == 0 {
		users = append(users, nobody)
	}
	program, path := programForAll(t), filepath.Join(publicDir(t), "socket")
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp", "[::ffff:127.0.0.1]:0"}, {"unix", path}} {
		l := listen(t, at[0], at[1])
		if at[0] == "unix" {
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		for _, uid := range users {
			got, err := peer.Owner(accept(t, program, l, uid))
			if err != nil || got != uid {
				t.Errorf("%s: user %d, %v, want %d", at[1], got, err, uid)
			}
		}
	}
}

// TestOwnerAmongOthers has sockets of the same two ports at other addresses of loopback, and one of the same address that speaks
// IPv6: the socket that is asked for is the one that is told, whatever the others are.
func TestOwnerAmongOthers(t *testing.T) {
	first := listen(t, "tcp", "127.0.0.1:0")
	port := first.Addr().(*net.TCPAddr).Port
	client, err := net.Dial("tcp", first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	own := client.LocalAddr().(*net.TCPAddr).Port
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} { // from the same port, to the same port
		l := listen(t, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip), Port: own}}).Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	server, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if uid, err := peer.Owner(server); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("user %d, %v", uid, err)
	}

	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Port: port, Addr: [16]byte{10: 255, 11: 255, 12: 127, 15: 1}}); err != nil {
		t.Fatal(err)
	}
	mapped, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	if uid, err := peer.Owner(mapped); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("of a socket that speaks IPv6: user %d, %v", uid, err)
	}
}

// TestOwnerOfAClosedSocket: the kernel shows a socket that was closed as root's. That it was anybody's is not to be told any more.
func TestOwnerOfAClosedSocket(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if uid, err := peer.Owner(server); !errors.Is(err, peer.ErrUnknown) {
		t.Errorf("user %d, %v", uid, err)
	}
}

// TestOwnerUnknown holds that nobody is named where nobody can be told.
func TestOwnerUnknown(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if uid, err := peer.Owner(one); !errors.Is(err, peer.ErrUnknown) {
		t.Errorf("of a pipe: user %d, %v", uid, err)
	}
}

func BenchmarkOwner(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	for b.Loop() {
		if _, err := peer.Owner(server); err != nil {
			b.Fatal(err)
		}
	}
}
