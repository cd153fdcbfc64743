package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// What may be wrong with a socket's path.
var (
	// ErrInUse means that another daemon, or another program, answers there.
	ErrInUse = errors.New("another daemon has the socket")
	// ErrNotSocket means that a file of another kind has the name. It is not replaced.
	ErrNotSocket = errors.New("is not a socket, and is not replaced")
	// ErrPathTooLong means that the path is longer than the system allows for a socket.
	ErrPathTooLong = errors.New("the path is too long for a socket")
)

// maxPath is the longest path of a socket in bytes: the system's array without its final zero.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// probeTimeout is how long one who has the socket may take to accept.
const probeTimeout = 2 * time.Second

// socket is the daemon's own socket file, and the lock that says whose its name is.
type socket struct {
	path     string
	listener *net.UnixListener
	file     fs.FileInfo // of the socket: how it is told from another of the same name
	lock     *os.File
}

// openSocket takes the lock, sees that nobody answers under the name, and puts a new socket there.
func openSocket(path, group string, log *slog.Logger) (*socket, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	g := newSocketGroup(group, log)
	if err := g.makeDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	s := &socket{path: path}
	if s.lock, err = takeLock(path + ".lock"); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := s.listen(g); err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	return s, nil
}

// CheckPath says why a socket cannot have a path, should it be too long (ErrPathTooLong). It looks at no file.
func CheckPath(path string) error {
	_, err := absolute(path)
	return err
}

// absolute returns the whole path, if a socket may have it. "@name", which Linux takes for a socket without a file, is a
// file here.
func absolute(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	// The name of the socket while it is made counts, too.
	if longest := max(len(path), len(filepath.Dir(path))+len("/.123456/s")); longest > maxPath {
		return "", fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrPathTooLong, longest, maxPath)
	}
	return path, nil
}

// listen makes the socket in a directory that nobody else may enter, gives it its mode, and only then its name: at no
// time can anybody reach it who may not. The rename takes the place of a socket that a dead daemon left.
func (s *socket) listen(g *socketGroup) error {
	if err := vacant(s.path); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	tempDir := filepath.Join(filepath.Dir(s.path), "."+rand.Text()[:6])
	if err := os.Mkdir(tempDir, 0o700); err != nil {
		return fmt.Errorf("making the socket: %w", err)
	}
	defer os.RemoveAll(tempDir)
	made := filepath.Join(tempDir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return fmt.Errorf("making the socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then the name may be another's
	if err := errors.Join(os.Chmod(made, 0o600), g.open(made, 0o660), os.Rename(made, s.path)); err != nil {
		return errors.Join(fmt.Errorf("making the socket: %w", err), l.Close())
	}
	if s.file, err = os.Lstat(s.path); err != nil {
		return errors.Join(err, l.Close())
	}
	s.listener = l
	return nil
}

// vacant says why a new socket must not take the path, if so. Only a refused connection proves that nobody has a socket:
// a full queue or a missing right do not. The lock is held, which matters where a full queue refuses, too, as on macOS.
func vacant(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return ErrNotSocket
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		c.Close()
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("%w, perhaps: %w", ErrInUse, reason(err))
}

// remove takes the socket's name away, if it is still this socket's.
func (s *socket) remove() error {
	now, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, s.file) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(s.path)
}

// reason strips what the net package says before the system's own word.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}
