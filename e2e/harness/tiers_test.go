// The servers and links under the tiers' tests do what they say.

package harness

import (
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
	r := StartRedis(t, "--maxmemory", "3mb")
	if got := r.CLI("CONFIG", "GET", "maxmemory"); got != "maxmemory\n3145728\n" {
		t.Errorf("maxmemory: %q", got)
	}
	r.CLI("SET", "plain", "first secret")
	r.CLI("HSET", "hash", "field", "second secret")
	for _, want := range []string{"plain", "first secret", "hash", "field", "second secret"} {
		if !strings.Contains(r.Everything(), want) {
			t.Errorf("everything lacks %q", want)
		}
	}
	r.testFaults(t, r.pong)
	if got := r.CLI("DBSIZE"); got != "0\n" {
		t.Errorf("%s keys came through a crash", got)
	}
}

// TestPostgresServer kills, hangs and restarts a Postgres.
func TestPostgresServer(t *testing.T) {
	t.Parallel()
	s := StartPostgres(t, "max_connections=17")
	if got := s.Query("SHOW max_connections"); got != "17" {
		t.Errorf("max_connections: %q", got)
	}
	s.Query("CREATE TABLE kept (v text); INSERT INTO kept VALUES ('first secret'); CREATE UNLOGGED TABLE lost (v bytea); INSERT INTO lost VALUES ('second secret')")
	for _, want := range []string{"first secret", "second secret"} {
		if !strings.Contains(s.Everything(), want) {
			t.Errorf("everything lacks %q", want)
		}
	}
	children := childrenOf(t, s.p.Cmd.Process.Pid)
	if len(children) == 0 {
		t.Error("Postgres has no processes but its first")
	}
	s.testFaults(t, s.answersTCP)
	if got := s.Query("SELECT v FROM kept"); got != "first secret" {
		t.Errorf("after a crash: %q", got)
	}
	if got := s.Query("SELECT count(*) FROM lost"); got != "0" {
		t.Errorf("%s unlogged rows came through a crash", got)
	}
}

// answersTCP asks for TLS by the protocol's first message, which a backend answers by one byte.
func (s *PostgresServer) answersTCP() bool {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
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
func (s *TierServer) testFaults(t *testing.T, asked func() bool) {
	t.Helper()
	if !asked() {
		t.Error("it does not answer")
	}
	s.Hang()
	if asked() {
		t.Error("it answers while it hangs")
	}
	s.Resume()
	Eventually(t, "an answer after a hang", asked)
	s.Hang()
	s.Kill()
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("a killed server takes connections")
	}
	s.Kill() // no fault
	before := s.Addr()
	s.Restart()
	if !asked() || s.Addr() != before {
		t.Error("it does not answer at its address after a restart")
	}
}

// TestLink breaks a link in every way.
func TestLink(t *testing.T) {
	t.Parallel()
	l := StartLink(t, startEcho(t))
	whole := newCaller(t, l.Addr)
	whole.says("one", "one")

	l.Freeze()
	whole.write("two")
	whole.silent()
	l.Restore()
	whole.receives("two")

	const delay = 50 * time.Millisecond
	l.Slow(delay)
	begun := time.Now()
	whole.says("three", "three")
	if took := time.Since(begun); took < 2*delay { // there and back
		t.Errorf("slow: %v", took)
	}

	l.Garble("what?")
	whole.says("fourth", "what?")
	l.Restore()
	whole.says("five", "five")
	if open, taken := l.connections(); open != 1 || taken != 1 {
		t.Errorf("%d connections open of %d", open, taken)
	}

	l.Cut()
	whole.broken()
	if _, err := net.Dial("tcp", l.Addr); err == nil {
		t.Error("a cut link takes connections")
	}
	l.Restore()
	again := newCaller(t, l.Addr)
	again.says("six", "six")
	_ = again.conn.Close()
	Eventually(t, "closed on the far side", func() bool { open, _ := l.connections(); return open == 0 })
	if _, taken := l.connections(); taken != 2 {
		t.Errorf("%d connections taken, want 2", taken)
	}
}

// TestFrozenLinkEnds cuts a link that holds data back, to a server that does not answer.
func TestFrozenLinkEnds(t *testing.T) {
	t.Parallel()
	l := StartLink(t, startEcho(t))
	l.Freeze()
	c := newCaller(t, l.Addr)
	c.write("lost")
	l.Cut()
	c.broken()
}

// TestFolders runs two kinds of daemon in folders of their own, reads by how much its metrics grow, and asks one that is
// not there.
func TestFolders(t *testing.T) {
	t.Parallel()
	m := StartModern(t, ModernOptions{})
	at := NewFolders(t)
	if n := len(at.Socket()); n > 100 {
		t.Errorf("the socket's path has %d bytes", n)
	}
	if out, complaints, code := at.Verb(t, "cache-stats", "-o", "json"); code == 0 || out != "" || complaints == "" {
		t.Errorf("without a daemon: exit code %d, %q, %q", code, out, complaints)
	}
	for _, c := range []Config{{Args: []string{"--upstream", "s=" + m.URL}}, OneUpstream(m.URL, "").In(at)} {
		d := Start(t, c)
		before := d.Scrape()
		d.Agent(t).Ask("/mcp/s", "tools/list", "")
		grown := d.Scrape().Minus(before)
		if n := grown.Sum("fluentd_perf_requests_total", `method="tools/list"`, `outcome="ok"`); n != 1 {
			t.Errorf("%v requests counted, want 1", n)
		}
	}
}

// startEcho is a server that sends back what it receives.
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

// caller is a connection of which every read and write ends within MaxWait.
type caller struct{ *RawAgent }

func newCaller(t *testing.T, addr string) *caller { return &caller{Dial(t, addr)} }

func (c *caller) write(text string) {
	c.T.Helper()
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.T.Fatal(err)
	}
}

func (c *caller) receives(want string) {
	c.T.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.Reader, got); err != nil || string(got) != want {
		c.T.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func (c *caller) says(text, want string) {
	c.T.Helper()
	c.write(text)
	c.receives(want)
}

// silent holds it to saying nothing for a moment, and to being there.
func (c *caller) silent() {
	c.T.Helper()
	c.Deadline(100 * time.Millisecond)
	if b, err := c.Reader.ReadByte(); !isTimeout(err) {
		c.T.Errorf("%q, %v; want nothing", b, err)
	}
	c.Deadline(MaxWait)
}

// broken waits for the connection's end.
func (c *caller) broken() {
	c.T.Helper()
	if b, err := c.Reader.ReadByte(); err == nil || isTimeout(err) {
		c.T.Errorf("%q, %v; want a broken connection", b, err)
	}
}

func isTimeout(err error) bool {
	failure, is := errors.AsType[net.Error](err)
	return is && failure.Timeout()
}
