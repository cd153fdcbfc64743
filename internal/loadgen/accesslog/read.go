package accesslog

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// The bounds of what is held in memory.
const (
	maxLine      = 64 << 10 // bytes
	maxUpstreams = 1000
	maxKinds     = 10_000 // methods and tools of all servers, for means
	maxCalls     = 50_000 // that are remembered, to know equal ones: those called last
)

// fresh is how long an answer is taken to be fresh.
const fresh = 5 * time.Minute

// others is the name of servers beyond maxUpstreams.
const others = "(others)"

// kindKey is what has a mean of its own.
type kindKey struct{ upstream, method, tool string }

// kind are the times of calls that went to the server, and how many were spared it.
type kind struct {
	asked, spared int64
	seconds       float64
}

// callKey is what two calls have in common that may be equal.
type callKey struct {
	kindKey
	agent   string
	in, out int64
}

// reader is a log that is being read.
type reader struct {
	report  Report
	servers map[string]*Server
	kinds   map[kindKey]*kind
	// answered is when the last call of each key that went to the server was answered. Two maps, of which the older one is dropped
	// when the younger is full, hold those that were used last.
	answered, before map[callKey]time.Time
}

// Read reads a log to its end. The error is the reader's.
func Read(log io.Reader) (*Report, error) {
	r := &reader{
		report:  Report{Schema: SchemaID, Servers: []Server{}, Notes: notes},
		servers: make(map[string]*Server), kinds: make(map[kindKey]*kind), answered: make(map[callKey]time.Time),
	}
	lines := bufio.NewReaderSize(log, maxLine)
	for {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.report.TooLong++
			r.report.Others++
			if err = skipLine(lines); err == nil {
				continue
			}
			text = nil
		}
		if len(bytes.TrimSpace(text)) > 0 {
			r.line(text)
		}
		switch {
		case errors.Is(err, io.EOF):
			return r.end(), nil
		case err != nil:
			return nil, err
		}
	}
}

// skipLine reads to the end of a line.
func skipLine(lines *bufio.Reader) error {
	for {
		_, err := lines.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func (r *reader) line(text []byte) {
	l, ok := parse(text)
	if !ok {
		r.report.Others++
		return
	}
	r.report.Lines++
	if begin := l.begin(); r.report.From.IsZero() || begin.Before(r.report.From) {
		r.report.From = begin
	}
	if l.end.After(r.report.To) {
		r.report.To = l.end
	}
	if !l.isCall() {
		return
	}
	s := r.server(l)
	s.Calls++
	s.Seconds += l.took.Seconds()
	if l.outcome != "ok" {
		s.Failed++
	}
	s.count(l)
	r.savings(s, l)
}

// isCall leaves out streams, which last as long as the agent likes, arrays, which are many calls, and what is no message of an agent's
// own: answers to the server, OAuth.
func (l *line) isCall() bool {
	switch l.method {
	case "rpc", "subscriptions/listen", "response", "metadata":
		return false
	}
	return l.verb == "POST"
}

// server returns the figures of the line's server.
func (r *reader) server(l *line) *Server {
	if s := r.servers[l.upstream]; s != nil {
		return s
	}
	if len(r.servers) >= maxUpstreams {
		l.upstream = others
		if s := r.servers[others]; s != nil {
			return s
		}
	}
	s := &Server{Name: l.upstream}
	r.servers[s.Name] = s
	return s
}

// serverTime is how long the server took: to the end of its answer, or all, of a line without that.
func (l *line) serverTime() float64 { return cmp.Or(l.atServer, l.took).Seconds() }

// count adds what happened.
func (s *Server) count(l *line) {
	switch {
	case l.isCollapsed():
		s.Collapsed++
	case l.isHit():
		s.Hits++
	}
	switch l.method {
	case "initialize", "server/discover", "notifications/initialized":
		if !l.spared() {
			s.Handshakes++
			s.HandshakeTime += l.serverTime()
		}
	}
	if l.connect > 0 {
		s.Connections++
		s.ConnectSeconds += l.connect.Seconds()
	}
	if l.reason == "session_restarted" || l.reason == "session_lost" || l.status == 404 && l.session != "" {
		s.DeadSessions++
		s.DeadSessionTime += l.took.Seconds()
	}
}

// savings adds what was spared, and what could have been.
func (r *reader) savings(s *Server, l *line) {
	key := kindKey{l.upstream, l.method, l.tool}
	k := r.kinds[key]
	if k == nil {
		k = new(kind)
		if len(r.kinds) < maxKinds { // those beyond have no mean
			r.kinds[key] = k
		}
	}
	switch {
	case l.spared():
		k.spared++
	case l.outcome == "ok":
		k.asked++
		k.seconds += l.serverTime()
		s.Possible.add(l, r.remember(l))
	}
}

// remember notes that a call was answered by the server, and returns when one that looks equal was; zero where none is known.
func (r *reader) remember(l *line) time.Time {
	key := callKey{kindKey{l.upstream, l.method, l.tool}, cmp.Or(l.agent, l.session), l.in, l.out}
	last, ok := r.answered[key]
	if !ok {
		last = r.before[key]
		if len(r.answered) >= maxCalls {
			r.answered, r.before = make(map[callKey]time.Time), r.answered
		}
	}
	r.answered[key] = l.end
	return last
}

// add counts a call that went to the server after, or while, one that looks equal did.
func (p *Possible) add(l *line, last time.Time) {
	shared := l.method == "prompts/get" || l.method == "completion/complete" || l.method == "tools/call" || l.method == "resources/read" || isList(l.method)
	switch after := l.begin().Sub(last); {
	case last.IsZero() || !shared || after >= fresh:
	case after < 0:
		p.Coalescable++
		p.CoalescSeconds += l.serverTime()
	case isList(l.method):
		p.ListHits++
		p.ListSeconds += l.serverTime()
	case l.method == "resources/read":
		p.ReadHits++
		p.ReadSeconds += l.serverTime()
	case l.method == "tools/call":
		p.ToolHits++
		p.ToolSeconds += l.serverTime()
	}
}

func isList(method string) bool {
	return method == "tools/list" || method == "prompts/list" || method == "resources/list" || method == "resources/templates/list"
}

// end adds the time that was saved, by the means of the whole log, and sorts the servers.
func (r *reader) end() *Report {
	for key, k := range r.kinds {
		if s := r.servers[key.upstream]; s != nil && k.asked > 0 {
			s.SavedSeconds += float64(k.spared) * k.seconds / float64(k.asked)
		}
	}
	for _, s := range r.servers {
		r.report.Servers = append(r.report.Servers, *s)
	}
	slices.SortFunc(r.report.Servers, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	return &r.report
}
