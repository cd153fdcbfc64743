package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Place is where a daemon's socket may be.
type Place struct {
	Path string // of the socket
	From string // what named it, for people: a flag, a variable
}

// ErrNotFound means that no daemon answers.
var ErrNotFound = errors.New("no running fluentd-perf was found")

// Find returns the path of the first place at which somebody takes connections, or ErrNotFound with a line for each place. A place that does not
// take one within 2 s does not answer.
func Find(ctx context.Context, places []Place) (string, error) {
	if len(places) == 0 {
		return "", fmt.Errorf("%w; tried nothing: no place is known", ErrNotFound)
	}
	var tried []error
	for _, p := range places {
		err := probe(ctx, p.Path)
		if err == nil {
			return p.Path, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		tried = append(tried, fmt.Errorf("  %s (%s): %w", p.Path, p.From, err))
	}
	return "", fmt.Errorf("%w; tried\n%w", ErrNotFound, errors.Join(tried...))
}

func probe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := dial(ctx, path)
	if err == nil {
		return c.Close()
	}
	return hint(path, reason(err))
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPathTooLong, len(path), maxPath)
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// hint adds to the system's word what it means here.
func hint(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it is another user's (`admin.group` in that daemon's configuration lets others in)", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		if f, gone := os.Stat(path); gone == nil && f.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("%w: it is not a socket", err)
		}
		return fmt.Errorf("%w: its daemon has died", err)
	}
	return err
}
