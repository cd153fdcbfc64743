package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"fluentd-perf/internal/mcptest"
)

// faulty is a server of the chaos run: it does work with a side effect, answers what only it can know, and misbehaves as
// it is told to. It may be killed at any time: an effect is in its journal before anything is answered.
//
// It is one of four kinds: `modern` (2026-07-28), `sessions` and `stateless` (2025-11-25), `plain` (JSON-RPC without MCP). A `modern+changes`
// announces that its tools change.
type faulty struct {
	kind, key string
	changes   bool
	journal   *os.File
	dice      dice
	sessions  sessions
}

// faultyServer serves on a port of 127.0.0.1 until standard input is closed. The journal is a file that it appends to, a
// line for each effect: the token of the call; or, after an exclamation mark, what nobody may ever ask of it.
func faultyServer(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("faulty KIND PORT JOURNAL KEY")
	}
	f := &faulty{key: args[3]}
	f.kind, f.changes = strings.CutSuffix(args[0], "+changes")
	var err error
	if f.journal, err = os.OpenFile(args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	defer f.journal.Close()
	listener, err := net.Listen("tcp4", "127.0.0.1:"+args[1])
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/fault", f.fault)
	mux.HandleFunc("/mcp", f.serve)
	mux.HandleFunc("/journal", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, args[2]) })
	server := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	_ = obey(func(command string) error { return fmt.Errorf("no such command: %q", command) })
	_ = server.Close()
	<-served
	return nil
}

// note writes a line to the journal, in one write, so that it is whole after a kill.
func (f *faulty) note(format string, args ...any) {
	if _, err := fmt.Fprintf(f.journal, format+"\n", args...); err != nil {
		fmt.Fprintln(os.Stderr, "peer: journal:", err)
		os.Exit(1)
	}
}

func (f *faulty) seal(parts ...string) string { return mcptest.Seal(f.key, parts...) }

// tokenOf returns the bearer token of a request: it says who calls.
func tokenOf(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// answer is one HTTP answer before it is sent, or spoilt.
type answer struct {
	status  int
	header  map[string]string
	content string // of Content-Type; "" where there is no body
	body    string
}

func text(status int, body string) answer {
	return answer{status: status, content: "text/plain; charset=utf-8", body: body}
}

// serve answers a request, spoilt or not.
func (f *faulty) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	spoil := f.dice.roll()
	if f.before(spoil, w) {
		return
	}
	if r.Method == http.MethodGet {
		f.stream(w, r)
		return
	}
	var m message
	if json.Unmarshal(body, &m) == nil && m.Method == "subscriptions/listen" {
		f.listen(w, r, &m)
		return
	}
	f.after(spoil, w, f.answer(spoil, r, body, &m))
}

func (f *faulty) answer(spoil spoil, r *http.Request, body []byte, m *message) answer {
	switch {
	case f.kind == "plain":
		return f.answerPlain(spoil, tokenOf(r), body)
	case r.Method == http.MethodDelete:
		f.sessions.end(r.Header.Get(sessionHeader))
		return answer{status: http.StatusNoContent}
	}
	if one, ok := arrayOfOne(body); ok {
		return f.answerArray(r, one)
	}
	return f.answerMCP(r, m)
}

// send writes an answer.
func send(w http.ResponseWriter, a answer) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.content != "" {
		w.Header().Set("Content-Type", a.content)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// sessions are the sessions of one life of a server: who opened each.
type sessions struct {
	mu     sync.Mutex // guards the following
	n      int
	owners map[string]string
}

const sessionHeader = "Mcp-Session-Id"

// mostSessions bounds them: agents leave some behind.
const mostSessions = 10_000

func (s *sessions) open(owner string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners == nil || len(s.owners) >= mostSessions {
		s.owners = map[string]string{}
	}
	s.n++
	id := fmt.Sprintf("%d-%d", os.Getpid(), s.n) // no two lives of a server share one
	s.owners[id] = owner
	return id
}

func (s *sessions) owner(id string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, ok := s.owners[id]
	return owner, ok
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owners, id)
}

func (s *sessions) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners = nil
}
