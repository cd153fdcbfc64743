package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
)

// openListeners takes the sockets that the service manager hands over, or opens the configured addresses. An address that
// is optional ([::1] by default) is left out where the machine does not have it. own says that it opened them itself: nobody
// else accepts there.
func openListeners(ctx context.Context, wanted []config.Listen, log *slog.Logger) (open []net.Listener, own bool, err error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, false, fmt.Errorf("taking over the service manager's sockets: %w", err)
	}
	for _, l := range given {
		if l == nil {
			return nil, false, errors.New("the service manager handed over a socket that does not listen for streams")
		}
		if network := l.Addr().Network(); network != "tcp" && network != "unix" {
			return nil, false, fmt.Errorf("the service manager handed over %s (%s): agents come by TCP or a Unix socket", l.Addr(), network)
		}
	}
	if len(given) > 0 {
		return given, false, nil
	}
	for _, l := range wanted {
		ln, err := listenOn(ctx, l)
		if err == nil {
			open = append(open, ln)
			continue
		}
		if l.Optional && addressMissing(err) {
			log.Debug("not listening where there is no such address", "address", l.Address, "cause", err)
			continue
		}
		closeAll(open)
		return nil, false, fmt.Errorf("listening on %s: %w", cmp.Or(l.Address, unixScheme+l.Unix), listenHint(err))
	}
	return open, true, nil
}

// unixScheme begins the address of a Unix socket, as people write and read it; the path of its file follows.
const unixScheme = "unix:"

// listenOn opens the listener of one address. A Unix socket is for the daemon's user alone. admin.group is not let in: it may
// administer the daemon, which is not to use what is behind it. Other rights are for the service manager's sockets to give.
func listenOn(ctx context.Context, on config.Listen) (net.Listener, error) {
	if on.Unix != "" {
		return api.Listen(on.Unix)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", on.Address)
}

// listenAddress returns a listener's address as the configuration writes it.
func listenAddress(l net.Listener) string {
	a := l.Addr()
	if a.Network() == "unix" {
		return unixScheme + a.String()
	}
	return a.String()
}

// addressMissing reports whether the machine has no such address, IPv6 switched off included.
func addressMissing(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || strings.Contains(err.Error(), "no suitable address")
}

func listenHint(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, api.ErrInUse) {
		return fmt.Errorf("%w (is another fluentd-perf running? choose another with --listen)", err)
	}
	return err
}

// onLoopback reports whether only this machine can reach the listeners: over loopback, or by a Unix socket.
func onLoopback(listeners []net.Listener) bool {
	for _, l := range listeners {
		tcp, ok := l.Addr().(*net.TCPAddr)
		if local := ok && tcp.IP.IsLoopback() || l.Addr().Network() == "unix"; !local {
			return false
		}
	}
	return true
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// acceptQueued takes all connections that wait in the accept queue of l, and waits for none. An error ends it: what cannot
// be taken is reset with the listener.
func acceptQueued(l net.Listener) (conns []net.Conn) {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) { // fails on a listener that is closed
		for {
			nc, err := acceptNow(int(fd))
			switch {
			case err == nil:
				conns = append(conns, nc)
			case !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.ECONNABORTED):
				return
			}
		}
	})
	return conns
}

// acceptNow accepts one connection of a socket that does not block.
func acceptNow(socket int) (net.Conn, error) {
	syscall.ForkLock.RLock()
	fd, _, err := syscall.Accept(socket)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "accepted")
	defer f.Close() // net.FileConn has a copy
	return net.FileConn(f)
}

// descriptorLimit returns how many descriptors this process may have, 0 where it is unknown. Go has lifted the soft limit to the hard
// one at start, and gives children the one from before.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

// streamCap returns how many GET and listen streams may be open: a stream takes two descriptors, one on each side, and
// calls need some too.
func streamCap(maxStreams int, descriptors uint64) int {
	if descriptors == 0 {
		return maxStreams
	}
	left := descriptors - min(200, descriptors/4)
	return int(min(uint64(maxStreams), left/2))
}

// connectionCap returns how many connections of agents may be open: two fifths of the descriptors are for what they ask servers.
func connectionCap(limit int, descriptors uint64) int {
	if descriptors == 0 {
		return limit
	}
	left := descriptors - min(200, descriptors/4)
	return int(min(uint64(limit), left*3/5))
}

// reachable turns an address that is listened on into one that can be dialled: 0.0.0.0 and [::] into loopback.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// hosts returns the names under which the daemon may be reached: the configured ones and those it listens on, which the
// service manager may have chosen.
func hosts(cfg *config.Config, open []net.Listener) []string {
	all := append([]string{}, cfg.Hosts...)
	for _, l := range open {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() {
			all = append(all, tcp.IP.String())
		}
	}
	for _, l := range cfg.Listen {
		if host, _, err := net.SplitHostPort(l.Address); err == nil && host != "" {
			all = append(all, host)
		}
	}
	return all
}
