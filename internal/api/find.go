package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Place is where a daemon's socket may be.
type Place struct {
	Path string // of the socket
	From string // what named it, for people: a flag, a variable
}

// NotFoundError says that no daemon answers, and where it was looked for.
type NotFoundError struct {
	Tried []Tried
}

// Tried is one place at which no daemon answers, and why.
type Tried struct {
	Place
	Err error
}

// Error returns a line for each place.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	b.WriteString("no running fluentd-perf was found; tried")
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "\n  %s (%s): %v", t.Path, t.From, t.Err)
	}
	if len(e.Tried) == 0 {
		b.WriteString(" nothing: no place is known")
	}
	return b.String()
}

// Unwrap returns why each place failed.
func (e *NotFoundError) Unwrap() []error {
	errs := make([]error, len(e.Tried))
	for i, t := range e.Tried {
		errs[i] = t.Err
	}
	return errs
}

// Find returns the path of the first place at which somebody takes connections, or a *NotFoundError. A place that does not
// take one within 2 s does not answer.
func Find(ctx context.Context, places []Place) (string, error) {
	var none NotFoundError
	for _, p := range places {
		err := probe(ctx, p.Path)
		if err == nil {
			return p.Path, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		none.Tried = append(none.Tried, Tried{p, err})
	}
	return "", &none
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
