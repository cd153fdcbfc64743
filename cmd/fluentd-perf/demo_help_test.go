package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestDemoHelp runs the curl commands that the demo verb prints.
func TestDemoHelp(t *testing.T) {
	_, url := startDemo(t)
	var help bytes.Buffer
	printDemoHelp(&help, strings.TrimPrefix(url, "http://"))

	session := ""
	var answers []string
	for _, command := range curlCommands(help.String()) {
		target, header, body := parseCurl(t, strings.ReplaceAll(command, "$SESSION", session))
		if target != url+"/mcp/demo" {
			t.Errorf("curl to %q, want %q", target, url+"/mcp/demo")
		}
		status, answerHeader, answer := doPost(t, target, header, body)
		if status != http.StatusOK {
			t.Errorf("%s\nstatus %d: %s", command, status, answer)
		}
		if id := answerHeader.Get("Mcp-Session-Id"); id != "" && session == "" {
			session = id
		}
		answers = append(answers, string(answer))
	}
	if len(answers) != 3 {
		t.Fatalf("%d curl commands, want 3", len(answers))
	}
	for i, want := range []string{`"name":"echo"`, `"protocolVersion":"2025-11-25"`, `{"sum":42}`} {
		if !strings.Contains(answers[i], want) {
			t.Errorf("answer %d is %s, want %s in it", i+1, answers[i], want)
		}
	}
}

// TestDemoHelpSnippets checks what the help says to paste into an agent's configuration.
func TestDemoHelpSnippets(t *testing.T) {
	var help bytes.Buffer
	printDemoHelp(&help, "127.0.0.1:9")
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
}

// TestReadmeShowsTheDemo holds the README's commands to those that TestDemoHelp runs.
func TestReadmeShowsTheDemo(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range curlCommands(demoHelp) {
		if !strings.Contains(string(readme), command) {
			t.Errorf("README.md does not show\n%s", command)
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
		case word == "-s":
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
