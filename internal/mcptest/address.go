package mcptest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Refused returns an address of 127.0.0.1 that refuses every connection until the test ends: its port is taken by a
// socket that does not listen, so that nobody else can get it meanwhile.
func Refused(tb TB) string {
	tb.Helper()
	addr, free, err := bind("127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	tb.Cleanup(free)
	return addr
}

// Unreachable returns an address of 127.0.0.1 that neither accepts nor refuses: connecting to it hangs, as it does to a
// host behind a firewall that drops. It listens with the smallest backlog, which is full.
func Unreachable(tb TB) string {
	tb.Helper()
	addr, free, err := fullBacklog()
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	tb.Cleanup(free)
	return addr
}

// reserve takes the port without listening and returns what frees it.
func reserve(addr string) (free func(), err error) {
	_, free, err = bind(addr)
	return free, err
}

func bind(addr string) (string, func(), error) {
	fd, at, err := bindSocket(addr)
	if err != nil {
		return "", nil, err
	}
	return at, func() { _ = syscall.Close(fd) }, nil
}

func bindSocket(addr string) (fd int, at string, err error) {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return 0, "", err
	}
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
		return 0, "", fmt.Errorf("socket: %w", err)
	}
	syscall.CloseOnExec(fd)
	// Connections of the listener before may linger on the port.
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	}
	if err == nil {
		at, err = boundTo(fd)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, "", fmt.Errorf("binding %s: %w", addr, err)
	}
	return fd, at, nil
}

func boundTo(fd int) (string, error) {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	in := sa.(*syscall.SockaddrInet4)
	return net.JoinHostPort(net.IP(in.Addr[:]).String(), strconv.Itoa(in.Port)), nil
}

// fullBacklog listens without accepting and connects until a connection hangs.
func fullBacklog() (string, func(), error) {
	fd, at, err := bindSocket("127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var waiting []net.Conn
	free := func() {
		for _, c := range waiting {
			_ = c.Close()
		}
		_ = syscall.Close(fd)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		free()
		return "", nil, err
	}
	for range 64 { // the kernel rounds a backlog up, by a few
		c, err := net.DialTimeout("tcp4", at, 250*time.Millisecond)
		if err != nil {
			return at, free, nil
		}
		waiting = append(waiting, c)
	}
	free()
	return "", nil, errors.New("the backlog takes any number of connections")
}
