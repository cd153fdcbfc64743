package stdio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// callArgument is the first argument of the test binary where it is to make calls as somebody; the addresses follow.
const callArgument = "call-as"

// otherUser is a user who runs nothing here: nobody's number on most systems.
const otherUser = "65534"

// privateUpstreams are the servers of TestOtherUser.
var privateUpstreams = []string{"modern", "legacy", "file"}

// callEach asks each upstream at each address in every way that could start a server, and prints the answers as JSON.
func callEach(addresses []string) error {
	answers := map[string]string{}
	for _, address := range addresses {
		network, at := "tcp", address
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, at = "unix", path
		}
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		}}}
		for _, upstream := range privateUpstreams {
			for _, way := range []struct{ name, method, path, version, body string }{
				{"initialize", "POST", "/mcp/", "", harness.InitializeRequest},
				{"discover", "POST", "/mcp/", "2026-07-28", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{` +
					`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`},
				{"listen", "GET", "/mcp/", "", ""},
				{"delete", "DELETE", "/mcp/", "", ""},
				{"rpc", "POST", "/rpc/", "", harness.Request("1", "tools/list")},
			} {
				answer, err := callOnce(client, way.method, "http://localhost"+way.path+upstream, way.version, way.body)
				if err != nil {
					return err
				}
				answers[strings.Join([]string{network, address, upstream, way.name}, " ")] = answer
			}
		}
		client.CloseIdleConnections()
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func callOnce(client *http.Client, method, url, version, body string) (string, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if version != "" {
		r.Header.Set("MCP-Protocol-Version", version)
		r.Header.Set("Mcp-Method", "server/discover")
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(text)), err
}

// callAs makes the calls in another process, under setpriv with these options. The binary is handed over open: it may lie where the
// other user cannot go.
func callAs(t *testing.T, options, addresses []string) map[string]string {
	t.Helper()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	cmd := exec.Command("setpriv", slices.Concat(options, []string{"/proc/self/fd/3", callArgument}, addresses)...)
	var complaints bytes.Buffer
	cmd.Dir, cmd.ExtraFiles, cmd.Stderr, cmd.SysProcAttr = "/", []*os.File{binary}, &complaints, harness.ChildAttributes()
	out, err := cmd.Output()
	answers := map[string]string{}
	if err != nil || json.Unmarshal(out, &answers) != nil || len(answers) != 5*len(privateUpstreams)*len(addresses) {
		t.Fatalf("%v: %v, %d answers\n%s%s", cmd.Args, err, len(answers), out, complaints.Bytes())
	}
	return answers
}

// TestOtherUser: another user of this machine gets 403 from every server that is a command, over each kind of listener and in every
// way to ask, and starts nothing. The daemon's own user does by the same calls.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "other") // where others may go, and short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(dir, "started")
	command := func(era string) []string {
		return append([]string{"sh", "-c", `echo "$4" >>` + started + `; exec "$@"`, "sh"}, serverCommand(t, "counting", era)...)
	}
	file := harness.WriteFile(t, "mcp.json", string(harness.RawJSON(map[string]any{"mcpServers": map[string]any{
		"file": map[string]any{"command": "sh", "args": command("both")[1:]},
	}})))
	socket, port := "unix:"+filepath.Join(dir, "s"), harness.FreePort(t)
	d := harness.Start(t, harness.Config{
		Upstreams: map[string]string{
			"modern": "{command: " + string(harness.RawJSON(command("both"))) + "}",
			"legacy": "{command: " + string(harness.RawJSON(command("legacy"))) + "}",
		},
		Args: []string{"--listen", "[::1]:" + port, "--listen", socket, "--mcp-json", file}, Steady: true,
	}.In(harness.NewFolders(t)))
	if err := os.Chmod(strings.TrimPrefix(socket, "unix:"), 0o666); err != nil { // as a service manager's may be
		t.Fatal(err)
	}
	addresses := []string{d.Addr, "[::1]:" + port, socket}
	for call, answer := range callAs(t, []string{"--reuid", otherUser, "--regid", otherUser, "--clear-groups"}, addresses) {
		if !strings.HasPrefix(answer, "403 ") || !strings.Contains(answer, "allow_users") {
			t.Errorf("%s: %q", call, answer)
		}
	}
	if text, err := os.ReadFile(started); !os.IsNotExist(err) {
		t.Errorf("another user has started %q, %v", text, err)
	}
	for call, answer := range callAs(t, nil, addresses) {
		if strings.HasPrefix(answer, "403 ") || strings.HasSuffix(call, "initialize") && !strings.HasPrefix(answer, "200 ") {
			t.Errorf("the daemon's user, %s: %q", call, answer)
		}
	}
	if text, _ := os.ReadFile(started); strings.Count(string(text), "\n") < len(addresses)*len(privateUpstreams) {
		t.Errorf("the daemon's user has started %q", text)
	}
}

// callIfAsked does not return in a process that is to make calls.
func callIfAsked() {
	if len(os.Args) < 2 || os.Args[1] != callArgument {
		return
	}
	if err := callEach(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
