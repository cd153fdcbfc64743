//go:build linux

package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen/fastserver"
)

// startProxies starts the daemon, twice, and the other proxies in front of a server. It returns a sentence for each that is not
// installed.
func startProxies(b *testing.B, server string) (peers []peer, missing []string) {
	b.Helper()
	binary := buildDaemon(b)
	add := func(name string, c *child, endpoint string) {
		peers = append(peers, peer{name: name, target: sessionsAt(b, endpoint), pids: c.tree})
	}
	peers = append(peers, peer{name: "direct", target: sessionsAt(b, "http://"+server+fastserver.Sessions), pids: func() []int { return nil }})
	for _, name := range []string{"daemon", "daemon again"} {
		d := runConfigured(b, binary, fmt.Sprintf("upstreams:\n  up: {url: %q}\n", "http://"+server+fastserver.Sessions))
		add(name, d.child, "http://"+d.addr+d.path)
	}
	goproxy := startRole(b, "goproxy", "http://"+server)
	add(baseline, goproxy, "http://"+goproxy.address()+fastserver.Sessions)
	for _, other := range []struct {
		name  string
		start func(*testing.B, string, string) (*child, string)
	}{{"nginx", startNginx}, {"haproxy", startHAProxy}, {"fasthttp", startFasthttp}} {
		program := programOf(other.name)
		if program == "" {
			missing = append(missing, fmt.Sprintf("%s is not installed here, and has no line.", other.name))
			continue
		}
		c, address := other.start(b, program, server)
		awaitListener(b, other.name, address)
		add(other.name, c, "http://"+address+fastserver.Sessions)
	}
	return peers, missing
}

// programOf finds a program, also where Debian has those of administrators; "" where it is not there.
func programOf(name string) string {
	for _, path := range []string{name, "/usr/sbin/" + name, "../.cache/bin/" + name + "-proxy"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return ""
}

// nginxConfig keeps connections to the server open and relays streams as they come.
const nginxConfig = `user root root;
worker_processes auto;
daemon off;
pid nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	keepalive_requests 100000000;
	upstream up { server %s; keepalive 512; keepalive_requests 100000000; }
	server {
		listen %s;
		location / {
			proxy_pass http://up;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering off;
		}
	}
}
`

func startNginx(b *testing.B, program, server string) (*child, string) {
	b.Helper()
	dir, address := b.TempDir(), freeAddr(b)
	configure(b, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(nginxConfig, server, address))
	return start(b, exec.Command(program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log")), os.Stderr), address
}

const haproxyConfig = `global
	maxconn 4096
defaults
	mode http
	timeout connect 5s
	timeout client 5m
	timeout server 5m
frontend agents
	bind %s
	default_backend server
backend server
	http-reuse always
	server up %s
`

func startHAProxy(b *testing.B, program, server string) (*child, string) {
	b.Helper()
	file, address := filepath.Join(b.TempDir(), "haproxy.cfg"), freeAddr(b)
	configure(b, file, fmt.Sprintf(haproxyConfig, address, server))
	return start(b, exec.Command(program, "-f", file, "-db"), os.Stderr), address
}

func startFasthttp(b *testing.B, program, server string) (*child, string) {
	b.Helper()
	c := start(b, exec.Command(program, server), os.Stderr)
	return c, c.address()
}

func configure(b *testing.B, file, text string) {
	b.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// awaitListener returns when something listens at an address.
func awaitListener(b *testing.B, name, address string) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return
		}
		<-tick.C
	}
	b.Fatalf("%s does not listen after 20 s", name)
}

// pid returns the id of the process.
func (c *child) pid() int { return c.cmd.Process.Pid }

// tree returns the process and all below it, but for servers over stdio, which are this program. It reads what Linux says of its
// processes (proc(5)).
func (c *child) tree() []int {
	parents := make(map[int]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // a pattern that is one
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil { // it has ended
			continue
		}
		var pid, parent int
		var state string
		at := strings.LastIndexByte(string(text), ')') // a name may have anything in it
		if _, err := fmt.Sscan(string(text[:strings.IndexByte(string(text), ' ')]), &pid); err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text[at+1:]), &state, &parent); err == nil {
			parents[pid] = parent
		}
	}
	all := []int{c.pid()}
	for i := 0; i < len(all); i++ {
		for pid, parent := range parents {
			if parent == all[i] && !isStdioServer(pid) {
				all = append(all, pid)
			}
		}
	}
	return all
}

// isStdioServer reports whether a process is this program again.
func isStdioServer(pid int) bool {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	other, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && other == own
}
