package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"fluentd-perf/internal/api"
)

// stay makes the test binary a daemon that opens the socket it names, for the group that stayGroup names, says so, and
// waits to be killed.
const (
	stay      = "ADMIN_TEST_STAY"
	stayGroup = "ADMIN_TEST_GROUP"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(stay); path != "" {
		if _, err := api.Open(api.Options{
			Path: path, Group: os.Getenv(stayGroup), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("open")
		bufio.NewReader(os.Stdin).ReadByte() // until the test dies, whatever becomes of it
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// directory returns a new directory with a path short enough for sockets, whatever the test is called.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serving runs a server until the test ends and returns the path of its socket.
func serving(t *testing.T, o api.Options) string {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(directory(t), "admin.sock")
	}
	s := open(t, o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return o.Path
}

// open opens a server that is closed when the test ends.
func open(t *testing.T, o api.Options) *api.Server {
	t.Helper()
	s, err := api.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// echo answers with what it was asked.
func echo(_ context.Context, params json.RawMessage) (any, error) { return params, nil }

// refuse holds that a path cannot be opened, for a reason and with words.
func refuse(t *testing.T, o api.Options, want error, words ...string) {
	t.Helper()
	s, err := api.Open(o)
	if err == nil {
		s.Close()
		t.Fatalf("%+v was opened", o)
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// connect opens a bare connection that is closed when the test ends.
func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

// mode returns the type and rights of a file.
func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}
