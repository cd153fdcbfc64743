package api_test

import (
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"testing"

	"fluentd-perf/internal/api"
)

// TestListen holds that a socket of another kind is taken as carefully as the admin socket.
func TestListen(t *testing.T) {
	path := filepath.Join(directory(t), "agents.sock")
	stale(t, path)
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := mode(t, path); got != 0o600|fs.ModeSocket || l.Addr().String() != path || l.Addr().Network() != "unix" {
		t.Errorf("%v at %s", got, l.Addr())
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if _, err := api.Listen(path); !errors.Is(err, api.ErrInUse) {
		t.Errorf("beside one that lives: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := names(t, filepath.Dir(path)); got != "" {
		t.Errorf("left %s", got)
	}
	next, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := l.Close(); err != nil || names(t, filepath.Dir(path)) != "agents.sock agents.sock.lock" {
		t.Errorf("a second Close took from the next one: %v", err)
	}
}
