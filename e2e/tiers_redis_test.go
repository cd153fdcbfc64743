package e2e

import (
	"bufio"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// redisServer is a real redis-server that keeps nothing on disk.
type redisServer struct{ *tierServer }

// startRedis starts a server that ends with the test. Settings are more arguments, as in "--maxmemory", "4mb".
func startRedis(t testing.TB, settings ...string) *redisServer {
	t.Helper()
	r := &redisServer{&tierServer{t: t, orderly: syscall.SIGTERM}}
	dir := t.TempDir()
	r.command = func() *exec.Cmd {
		cmd := exec.Command("redis-server", append([]string{
			"--bind", "127.0.0.1", "--port", r.port, "--dir", dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
		}, settings...)...)
		cmd.SysProcAttr = childAttributes()
		return cmd
	}
	r.answers = r.pong
	r.launch()
	return r
}

func (r *redisServer) url() string { return r.urlAt(r.addr()) }

// urlAt is the server's URL for a way to it that has another address.
func (r *redisServer) urlAt(addr string) string { return "redis://" + addr + "/0" }

// pong asks whether the server takes commands.
func (r *redisServer) pong() bool {
	conn, err := net.DialTimeout("tcp", r.addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && line == "+PONG\r\n"
}

// cli runs redis-cli and returns what it printed, raw: the bytes of strings as they are.
func (r *redisServer) cli(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("redis-cli", append([]string{"-u", r.url(), "--raw"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// everything returns all keys and values in the server, as they are stored: what somebody sees who has the server and
// not the daemon's key.
func (r *redisServer) everything() string {
	r.t.Helper()
	return r.cli("EVAL", `
local all = {}
local function put(list) for _, v in ipairs(list) do all[#all + 1] = v end end
local by = {
  string = function(k) all[#all + 1] = redis.call('GET', k) end,
  hash = function(k) put(redis.call('HGETALL', k)) end,
  list = function(k) put(redis.call('LRANGE', k, 0, -1)) end,
  set = function(k) put(redis.call('SMEMBERS', k)) end,
  zset = function(k) put(redis.call('ZRANGE', k, 0, -1)) end,
}
for _, k in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1] = k
  by[redis.call('TYPE', k).ok](k)
end
return all`, "0")
}
