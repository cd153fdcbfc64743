package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// These tests hold the equipment of the tiers' tests to what it says of itself: a server that does not die when it is
// killed, or a link that is never cut, would make every test of a fault pass.

// TestRedisServer kills, hangs and restarts a Redis.
func TestRedisServer(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--maxmemory", "3mb")
	if got := r.cli("CONFIG", "GET", "maxmemory"); got != "maxmemory\n3145728\n" {
		t.Errorf("maxmemory: %q", got)
	}
	r.cli("SET", "plain", "first secret")
	r.cli("HSET", "hash", "field", "second secret")
	for _, want := range []string{"plain", "first secret", "hash", "field", "second secret"} {
		if !strings.Contains(r.everything(), want) {
			t.Errorf("everything lacks %q", want)
		}
	}
	r.testFaults(t, r.pong)
	if got := r.cli("DBSIZE"); got != "0\n" {
		t.Errorf("%s keys came through a crash", got)
	}
}

// TestPostgresServer kills, hangs and restarts a Postgres.
func TestPostgresServer(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, "max_connections=17")
	if got := s.query("SHOW max_connections"); got != "17" {
		t.Errorf("max_connections: %q", got)
	}
	s.query("CREATE TABLE kept (v text); INSERT INTO kept VALUES ('first secret'); CREATE UNLOGGED TABLE lost (v bytea); INSERT INTO lost VALUES ('second secret')")
	for _, want := range []string{"first secret", "second secret"} {
		if !strings.Contains(s.everything(), want) {
			t.Errorf("everything lacks %q", want)
		}
	}
	children := childrenOf(t, s.p.cmd.Process.Pid)
	if len(children) == 0 {
		t.Error("Postgres has no processes but its first")
	}
	s.testFaults(t, s.answersTCP)
	if got := s.query("SELECT v FROM kept"); got != "first secret" {
		t.Errorf("after a crash: %q", got)
	}
	if got := s.query("SELECT count(*) FROM lost"); got != "0" {
		t.Errorf("%s unlogged rows came through a crash", got)
	}
}

// answersTCP asks for TLS by the protocol's first message, which a backend answers by one byte.
func (s *postgresServer) answersTCP() bool {
	conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return false
	}
	var answer [1]byte
	_, err = io.ReadFull(conn, answer[:])
	return err == nil && answer[0] == 'N'
}

// testFaults does everything to the server that there is to do. Asked, it answers, or not within a second.
func (s *tierServer) testFaults(t *testing.T, asked func() bool) {
	t.Helper()
	if !asked() {
		t.Error("it does not answer")
	}
	s.hang()
	if asked() {
		t.Error("it answers while it hangs")
	}
	s.resume()
	eventually(t, "an answer after a hang", asked)
	s.hang()
	s.kill()
	if _, err := net.Dial("tcp", s.addr()); err == nil {
		t.Error("a killed server takes connections")
	}
	s.kill() // no fault
	before := s.addr()
	s.restart()
	if !asked() || s.addr() != before {
		t.Error("it does not answer at its address after a restart")
	}
}

// TestLink breaks a link in every way.
func TestLink(t *testing.T) {
	t.Parallel()
	l := startLink(t, startEcho(t))
	whole := newCaller(t, l.addr)
	whole.says("one", "one")

	l.freeze()
	whole.write("two")
	whole.silent()
	l.restore()
	whole.hears("two")

	const delay = 50 * time.Millisecond
	l.slow(delay)
	begun := time.Now()
	whole.says("three", "three")
	if took := time.Since(begun); took < 2*delay { // there and back
		t.Errorf("slow: %v", took)
	}

	l.babble("what?")
	whole.says("fourth", "what?")
	l.restore()
	whole.says("five", "five")
	if open, taken := l.connections(); open != 1 || taken != 1 {
		t.Errorf("%d connections open of %d", open, taken)
	}

	l.cut()
	whole.broken()
	if _, err := net.Dial("tcp", l.addr); err == nil {
		t.Error("a cut link takes connections")
	}
	l.restore()
	again := newCaller(t, l.addr)
	again.says("six", "six")
	_ = again.conn.Close()
	eventually(t, "closed on the far side", func() bool { open, _ := l.connections(); return open == 0 })
	if _, taken := l.connections(); taken != 2 {
		t.Errorf("%d connections taken, want 2", taken)
	}
}

// TestFrozenLinkEnds cuts a link that holds data back, to a server that does not answer.
func TestFrozenLinkEnds(t *testing.T) {
	t.Parallel()
	l := startLink(t, startEcho(t))
	l.freeze()
	c := newCaller(t, l.addr)
	c.write("lost")
	l.cut()
	c.broken()
}

// TestPlaces runs two kinds of daemon in places of their own, reads by how much its metrics grow, and asks one that is
// not there.
func TestPlaces(t *testing.T) {
	t.Parallel()
	m := startModern(t, modernOptions{})
	at := newPlaces(t)
	if n := len(at.socket()); n > 100 {
		t.Errorf("the socket's path has %d bytes", n)
	}
	if out, complaints, code := at.verb(t, "cache-stats", "-o", "json"); code == 0 || out != "" || complaints == "" {
		t.Errorf("without a daemon: exit code %d, %q, %q", code, out, complaints)
	}
	first := startDaemon(t, "--upstream", "s="+m.url)
	origins := []string{first.url, runSidecar(t, one(m.url, "").in(at)).url("")}
	for _, origin := range origins {
		before := scrapeAt(t, origin)
		newAgent(t, origin).ask("/mcp/s", "tools/list", "")
		grown := scrapeAt(t, origin).minus(before)
		if n := grown.sum("fluentd_perf_requests_total", `method="tools/list"`, `outcome="ok"`); n != 1 {
			t.Errorf("%v requests counted, want 1", n)
		}
	}
}

// startEcho is a server that says what it hears.
func startEcho(t *testing.T) (addr string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// caller is a connection of which every read and write ends within patience.
type caller struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func newCaller(t *testing.T, addr string) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &caller{t, conn, bufio.NewReader(conn)}
	c.within(patience)
	return c
}

func (c *caller) within(d time.Duration) {
	if err := c.conn.SetDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) write(text string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) hears(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		c.t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func (c *caller) says(text, want string) {
	c.t.Helper()
	c.write(text)
	c.hears(want)
}

// silent holds it to saying nothing for a moment, and to being there.
func (c *caller) silent() {
	c.t.Helper()
	c.within(100 * time.Millisecond)
	if b, err := c.r.ReadByte(); !isTimeout(err) {
		c.t.Errorf("%q, %v; want nothing", b, err)
	}
	c.within(patience)
}

// broken waits for the connection's end.
func (c *caller) broken() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil || isTimeout(err) {
		c.t.Errorf("%q, %v; want a broken connection", b, err)
	}
}

func isTimeout(err error) bool {
	failure, is := errors.AsType[net.Error](err)
	return is && failure.Timeout()
}
