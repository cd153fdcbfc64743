package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/demo"
)

// TestDemoHelp runs what the demo verb prints: the curl commands, and the verb that looks into the cache.
func TestDemoHelp(t *testing.T) {
	url, help := startDemoVerb(t)
	session := ""
	var answers, states []string
	ask := func(command string) {
		target, header, body := parseCurl(t, strings.ReplaceAll(command, "$SESSION", session))
		if target != url {
			t.Errorf("curl to %q, want %q", target, url)
		}
		status, answerHeader, answer := doPost(t, target, header, body)
		if status != http.StatusOK {
			t.Errorf("%s\nstatus %d: %s", command, status, answer)
		}
		if id := answerHeader.Get("Mcp-Session-Id"); id != "" && session == "" {
			session = id
		}
		answers, states = append(answers, string(answer)), append(states, answerHeader.Get("Cache-Status"))
	}
	commands := curlCommands(help)
	if len(commands) != 4 {
		t.Fatalf("%d curl commands, want 4", len(commands))
	}
	for _, command := range commands {
		ask(command)
	}
	ask(commands[3]) // as the help says
	for i, want := range []string{`"name":"echo"`, `"protocolVersion":"2025-11-25"`, `{"sum":42}`, `"ttlMs":300000`, `"prompts":[`} {
		if !strings.Contains(answers[i], want) {
			t.Errorf("answer %d is %s, want %s in it", i+1, answers[i], want)
		}
	}
	if states[3] != "fluentd-perf; fwd=miss; stored" || !strings.HasPrefix(states[4], "fluentd-perf; hit; ttl=") || !strings.HasSuffix(states[4], "; detail=memory") {
		t.Errorf("Cache-Status %q", states)
	}
	lookIntoDemoCache(t, help)
}

// lookIntoDemoCache runs the help's cache-stats. Its socket is the demo's own.
func lookIntoDemoCache(t *testing.T, help string) {
	t.Helper()
	_, line, _ := strings.Cut(help, " cache-stats --socket ")
	socket, _, _ := strings.Cut(line, "\n")
	if !strings.HasPrefix(socket, os.TempDir()) {
		t.Errorf("the socket is %q, want one in %s", socket, os.TempDir())
	}
	code, out, errs := command("cache-stats", "--socket", socket, "-o", "json")
	var stats cache.Stats
	if err := json.Unmarshal([]byte(out), &stats); code != 0 || err != nil {
		t.Fatalf("exit %d, %v, %s", code, err, errs)
	}
	if len(stats.Upstreams) != 2 || stats.Upstreams[0].Upstream != "demo" || stats.Upstreams[0].Hits["memory"] != 1 {
		t.Errorf("%+v", stats.Upstreams)
	}
}

// TestDemoLeavesNothing holds that a demo uses nothing of another daemon's, whatever the surroundings say, and takes its
// directory with it, also where the system's directory for temporary files has too long a path for a socket.
func TestDemoLeavesNothing(t *testing.T) {
	own := t.TempDir()
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"} {
		t.Setenv(name, own)
	}
	temp := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temp)
	log := slog.New(slog.DiscardHandler)
	dirs, remove, err := demoDirectories(directoryFlags{}, log)
	if err != nil {
		t.Fatal(err)
	}
	if dirs.Runtime != filepath.Join(dirs.State, "run") || api.CheckPath(filepath.Join(dirs.Runtime, daemon.SocketName)) != nil {
		t.Errorf("%+v", dirs)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{own, temp, dirs.State} {
		if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("in %s: %v, %v", dir, entries, err)
		}
	}
	named := directoryFlags{daemon.Paths{State: filepath.Join(own, "s"), Runtime: filepath.Join(own, "r"), Cache: filepath.Join(own, "c")}}
	dirs, remove, err = demoDirectories(named, log)
	if err != nil || dirs != named.Paths {
		t.Fatalf("%+v, %v", dirs, err)
	}
	if _, err := os.Stat(named.State); errors.Join(remove(), err) != nil {
		t.Errorf("what was named: %v", err)
	}
}

// TestDemoHelpSnippets checks what the help says to paste into an agent's configuration.
func TestDemoHelpSnippets(t *testing.T) {
	var help bytes.Buffer
	demo.PrintHelp(&help, "127.0.0.1:9", "bin/fluentd-perf", "/tmp/x/run/admin.sock")
	snippets := 0
	for line := range strings.Lines(help.String()) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "{") {
			snippets++
			if !json.Valid([]byte(line)) || !strings.Contains(line, "http://127.0.0.1:9/mcp/demo") {
				t.Errorf("not to be pasted: %s", line)
			}
		}
	}
	if snippets != 3 {
		t.Errorf("%d JSON snippets, want 3", snippets)
	}
	if strings.Contains(help.String(), "7300") {
		t.Error("the help names an address that was not given")
	}
	if !strings.Contains(help.String(), "\n  bin/fluentd-perf cache-stats --socket /tmp/x/run/admin.sock\n") {
		t.Error("the help does not say how to look into the cache")
	}
}

// TestGettingStartedShowsTheDemo holds the commands of the page for newcomers to those that TestDemoHelp runs.
func TestGettingStartedShowsTheDemo(t *testing.T) {
	page, err := os.ReadFile("../../docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range curlCommands(demo.Help) {
		if !strings.Contains(string(page), command) {
			t.Errorf("docs/getting-started.md does not show\n%s", command)
		}
	}
}

// curlCommands returns the commands in a text whose indented paragraphs are commands, with the indent taken off.
func curlCommands(text string) (commands []string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		if strings.HasPrefix(paragraph, "  ") && strings.Contains(paragraph, "curl -s") {
			lines := strings.Split(strings.Trim(paragraph, "\n"), "\n")
			for i := range lines {
				lines[i] = strings.TrimPrefix(lines[i], "  ")
			}
			commands = append(commands, strings.Join(lines, "\n"))
		}
	}
	return commands
}

// parseCurl takes a curl command apart: the URL, the -H fields and the -d body. It fails the test on an option that it
// does not know.
func parseCurl(t *testing.T, command string) (target string, header http.Header, body string) {
	t.Helper()
	if inner, ok := strings.CutPrefix(command, "SESSION=$("); ok {
		command, _, _ = strings.Cut(strings.TrimSuffix(inner, ")"), " |\n") // what picks the session id out
	}
	words := shellWords(t, command)
	header = http.Header{}
	for i := 1; i < len(words); i++ {
		switch word := words[i]; {
		case word == "-s" || word == "-i":
		case word == "-o" || word == "-D":
			i++
		case word == "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			header.Set(name, value)
		case word == "-d":
			i++
			body = words[i]
		case strings.HasPrefix(word, "http://") && target == "":
			target = word
		default:
			t.Fatalf("unknown word %q in %s", word, command)
		}
	}
	return target, header, body
}

// shellWords splits a command into words: white space between, quotes of both kinds around, a backslash before the end
// of a line. That is all of the shell that the commands use.
func shellWords(t *testing.T, command string) (words []string) {
	t.Helper()
	command = strings.ReplaceAll(command, "\\\n", " ")
	for {
		command = strings.TrimLeft(command, " \n")
		if command == "" {
			return words
		}
		word, rest, _ := strings.Cut(command, " ")
		if quote := command[0]; quote == '\'' || quote == '"' {
			end := strings.IndexByte(command[1:], quote)
			if end < 0 {
				t.Fatalf("unclosed quote: %s", command)
			}
			word, rest = command[1:1+end], command[2+end:]
		}
		words, command = append(words, word), rest
	}
}

// doPost posts body and returns status, header and the answer's JSON, taken out of its event where it came as one.
func doPost(t *testing.T, url string, header http.Header, body string) (int, http.Header, json.RawMessage) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(answer)) {
		if data, ok := strings.CutPrefix(line, "data: {"); ok {
			return resp.StatusCode, resp.Header, json.RawMessage("{" + data)
		}
	}
	return resp.StatusCode, resp.Header, answer
}
