package api

import (
	"errors"
	"log/slog"
	"net"
	"sync"
)

// Listen opens a Unix socket for something else than calls, for the daemon's user alone (0600), with the care that Open takes: a
// socket that a dead daemon left is replaced, and nothing else is. Its errors are those of Open. Close removes the socket's name
// first, if it is still this socket's, and frees it for another daemon.
func Listen(path string) (net.Listener, error) {
	s, err := openSocket(path, "", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &listener{s.listener, &net.UnixAddr{Name: s.path, Net: "unix"}, sync.OnceValue(s.close)}, nil
}

// listener is a socket that somebody else serves.
type listener struct {
	*net.UnixListener
	address *net.UnixAddr
	close   func() error
}

// Addr implements net.Listener. The listener's own address is the name that the socket was made with.
func (l *listener) Addr() net.Addr { return l.address }

// Close implements net.Listener. It may be called again: the name and the lock may be another's by then.
func (l *listener) Close() error { return l.close() }

func (s *socket) close() error {
	err := s.remove() // while it still listens: so long its inode cannot be another file's
	return errors.Join(err, s.listener.Close(), s.unlock())
}
