package redis_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier/tiertest"
)

func TestMain(m *testing.M) {
	logging.Disable() // the tests' own clients ask servers that are not there yet
	goleak.VerifyTestMain(m)
}

// server is a real Redis server, a child of the test, on a Unix socket. It keeps nothing on disk unless it is told to.
type server struct {
	tb     testing.TB
	dir    string
	args   []string
	cmd    *exec.Cmd
	direct *goredis.Client // past the tier
}

// newServer starts a server that ends with the test.
func newServer(tb testing.TB, args ...string) *server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "redis") // short, since a socket's path may not be long
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{tb: tb, dir: dir, args: args}
	s.direct = goredis.NewClient(&goredis.Options{
		Network: "unix", Addr: s.socket(), PoolSize: 1000, PipelinePoolSize: -1, MaxRetries: -1, DialerRetries: 1,
	})
	tb.Cleanup(func() {
		_ = s.direct.Close()
		if s.cmd != nil {
			s.kill()
		}
		_ = os.RemoveAll(dir)
	})
	s.start()
	return s
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

func (s *server) url() string { return "unix://" + s.socket() }

// start starts the process and waits until it answers.
func (s *server) start() {
	s.tb.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--save", "",
		"--appendonly", "no", "--loglevel", "warning"}, s.args...)
	cmd := exec.Command("redis-server", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("these tests need a real redis-server, as from the Debian package redis-server: %v", err)
	}
	s.cmd = cmd
	eventually(s.tb, "the server answers", func() bool { return s.direct.Ping(context.Background()).Err() == nil })
}

// kill ends the process at once, also a stopped one.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// hang stops the process: its socket takes connections, and nobody answers.
func (s *server) hang() { s.signal(syscall.SIGSTOP) }

func (s *server) resume() { s.signal(syscall.SIGCONT) }

func (s *server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}

// do runs one command past the tier.
func (s *server) do(args ...any) any {
	s.tb.Helper()
	v, err := s.direct.Do(context.Background(), args...).Result()
	if err != nil {
		s.tb.Fatalf("%v: %v", args, err)
	}
	return v
}

// keys lists what the pattern matches.
func (s *server) keys(pattern string) []string {
	s.tb.Helper()
	keys, err := s.direct.Keys(context.Background(), pattern).Result()
	if err != nil {
		s.tb.Fatal(err)
	}
	return keys
}

// onlyKey is the one key that the pattern matches.
func (s *server) onlyKey(pattern string) string {
	s.tb.Helper()
	keys := s.keys(pattern)
	if len(keys) != 1 {
		s.tb.Fatalf("%s matches %q, want one", pattern, keys)
	}
	return keys[0]
}

// newTier makes a tier with a timeout that suits a busy machine, and closes it at the end of the test.
func newTier(tb testing.TB, url string, change ...func(*redis.Options)) *redis.Tier {
	tb.Helper()
	tier := open(tb, url, change...)
	tb.Cleanup(func() {
		if err := tier.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return tier
}

func open(tb testing.TB, url string, change ...func(*redis.Options)) *redis.Tier {
	tb.Helper()
	o := redis.Options{URL: url, Prefix: "test", Timeout: 5 * time.Second}
	for _, f := range change {
		f(&o)
	}
	tier, err := redis.NewTier(o)
	if err != nil {
		tb.Fatal(err)
	}
	return tier
}

var eventually = tiertest.Eventually

// fakeServer answers every connection with f, on a port of its own.
func fakeServer(tb testing.TB, f func(net.Conn)) (url string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	tb.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return "redis://" + l.Addr().String()
}
