//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// bridgeLoads are those of the bridges to a server over stdio. Every byte of the result is not looked at: bridges write JSON anew.
func bridgeLoads() []peerLoad {
	call := loadgen.ToolCall(fastserver.Small, fastserver.Arguments(loadgen.KeyMark))
	return []peerLoad{
		{"A server over stdio: an answer of 200 B, one session", call, 1},
		{"A server over stdio: an answer of 200 B, 8 sessions that call at once", call, 8},
	}
}

// startBridges starts the daemon, with a process for each session, twice, and with one for all, and the bridges that npm has, all with
// the same server over stdio. It returns a sentence for each that is not installed.
func startBridges(b *testing.B) (peers []peer, missing []string) {
	b.Helper()
	binary := buildDaemon(b)
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	entry := fmt.Sprintf("command: [%q], env: {%s: stdio}", program, roleKey)
	yaml := fmt.Sprintf("upstreams:\n  own: {%s}\n  shared: {%s, sessions: shared}\n", entry, entry)
	for _, one := range []struct{ name, upstream string }{
		{"daemon, a process for each session", "own"}, {"daemon again, the same", "own"}, {"daemon, one process for all (`sessions: shared`)", "shared"},
	} {
		d := runConfigured(b, binary, yaml)
		peers = append(peers, peer{name: one.name, target: sessionsAt(b, "http://"+d.addr+"/mcp/"+one.upstream), pids: d.child.tree})
	}
	node, err := exec.LookPath("node")
	modules, statErr := filepath.Abs("peers/node_modules")
	if err != nil || statErr != nil {
		return peers, []string{"Node.js is not installed here: supergateway and mcp-proxy have no line."}
	}
	command := "env " + roleKey + "=stdio " + program
	for _, one := range []struct {
		name, script string
		args         func(port string) []string
	}{
		{"supergateway, a process for each session", "supergateway/dist/index.js", func(port string) []string {
			return []string{"--stdio", command, "--outputTransport", "streamableHttp", "--stateful", "--port", port, "--logLevel", "none"}
		}},
		{"mcp-proxy, one process for all", "mcp-proxy/dist/bin/mcp-proxy.mjs", func(port string) []string {
			return append([]string{"--host", "127.0.0.1", "--port", port, "--server", "stream", "--"}, strings.Fields(command)...)
		}},
	} {
		script := filepath.Join(modules, one.script)
		if _, err := os.Stat(script); err != nil {
			missing = append(missing, fmt.Sprintf("%s is not installed here, and has no line.", one.name))
			continue
		}
		address := freeAddr(b)
		_, port, _ := net.SplitHostPort(address)
		c := start(b, exec.Command(node, append([]string{script}, one.args(port)...)...), os.Stderr)
		awaitListener(b, one.name, address)
		peers = append(peers, peer{name: one.name, target: sessionsAt(b, "http://"+address+"/mcp"), pids: c.tree})
	}
	return peers, missing
}

// stdioRole is the scripted server over stdio: what fastserver answers, as a line each.
func stdioRole([]string) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		line := in.Bytes()
		var m mcp.Message
		if err := mcp.Scan(line, &m); err != nil {
			return err
		}
		if m.Kind != mcp.KindRequest {
			continue
		}
		if _, err := fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID.Of(line), stdioResult(line, &m)); err != nil {
			return err
		}
	}
	return in.Err()
}

func stdioResult(line []byte, m *mcp.Message) string {
	switch m.Method {
	case mcp.MethodInitialize:
		return `{"protocolVersion":"` + mcp.Version20251125 + `","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`
	case mcp.MethodToolsList:
		return fastserver.ListResult("300000")
	case mcp.MethodToolsCall:
		_, rest, _ := bytes.Cut(line, []byte(`"key":"`))
		return fastserver.Result(fastserver.Small, string(rest[:min(len(rest), fastserver.KeyWidth)]))
	}
	return "{}"
}
