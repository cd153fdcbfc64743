package harness

import (
	"bufio"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a real redis-server that keeps nothing on disk.
type RedisServer struct{ *TierServer }

// StartRedis starts a server that ends with the test. Settings are more arguments, as in "--maxmemory", "4mb".
func StartRedis(t testing.TB, settings ...string) *RedisServer {
	t.Helper()
	r := &RedisServer{&TierServer{T: t, Orderly: syscall.SIGTERM}}
	dir := t.TempDir()
	r.Command = func() *exec.Cmd {
		cmd := exec.Command("redis-server", append([]string{
			"--bind", "127.0.0.1", "--port", r.Port, "--dir", dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
		}, settings...)...)
		cmd.SysProcAttr = ChildAttributes()
		return cmd
	}
	r.Answers = r.pong
	r.Launch()
	return r
}

// URL is what the daemon is told of the server.
func (r *RedisServer) URL() string { return r.URLAt(r.Addr()) }

// URLAt is the server's URL for a way to it that has another address.
func (r *RedisServer) URLAt(addr string) string { return "redis://" + addr + "/0" }

// pong asks whether the server takes commands.
func (r *RedisServer) pong() bool {
	conn, err := net.DialTimeout("tcp", r.Addr(), time.Second)
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

// CLI runs redis-cli and returns what it printed, raw: the bytes of strings as they are.
func (r *RedisServer) CLI(args ...string) string {
	r.T.Helper()
	cmd := exec.Command("redis-cli", append([]string{"-u", r.URL(), "--raw"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.T.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// Everything returns all keys and values in the server, as they are stored: what somebody sees who has the server and
// not the daemon's key.
func (r *RedisServer) Everything() string {
	r.T.Helper()
	return r.CLI("EVAL", `
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
