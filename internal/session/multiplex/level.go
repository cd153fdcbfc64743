package multiplex

import (
	"context"
	"slices"

	"fluentd-perf/internal/mcp"
)

// level is the severity of a log message; 0 is none, or one that nobody knows.
type level int

// levels are the severities, the most verbose first (2025-11-25, server/utilities/logging, "Log Levels").
var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// levelOf returns the level in a JSON value.
func levelOf(value []byte) level {
	text, _ := mcp.Text(value)
	return level(slices.Index(levels, text) + 1)
}

func (l level) String() string { return levels[l-1] }

// includes reports whether a message of a level is for a session that has set l. A session that has set none gets what the server
// sends; a level that nobody knows is nobody's to leave out.
func (l level) includes(message level) bool { return message == 0 || message >= l }

// setLevel sends a logging/setLevel up with the most verbose level of all sessions, so that the answer is the server's own.
func (s *Session) setLevel(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	at, err := mcp.Member(m.Params.Of(body), "level")
	wanted := levelOf(at.Of(m.Params.Of(body)))
	if err != nil || wanted == 0 { // the server may take it for one that all others would then have
		s.reply(body, m, take, rpcError(codeInvalidParams, "Invalid log level"))
		return nil, nil
	}
	p := s.p
	if f := p.setting.take(ctx, p); f != nil {
		return nil, f
	}
	defer p.setting.give()
	p.mu.Lock()
	before := s.level
	s.level = wanted
	s.set++
	set, most := s.set, p.mostVerboseLocked()
	p.level = most
	p.mu.Unlock()
	if most != 0 && most != wanted {
		own := *m
		at.Start, at.End = at.Start+m.Params.Start, at.End+m.Params.Start
		body, m = own.Splice(nil, body, at, []byte(`"`+most.String()+`"`)), &own
	}
	return s.pass(ctx, body, m, take, func(_ []byte, answer *mcp.Message) {
		if answer != nil && answer.Kind == mcp.KindResult {
			return
		}
		p.mu.Lock()
		p.level = 0
		if s.set == set {
			s.level = before
		}
		p.mu.Unlock()
		p.settleLater(p.setMostVerbose) // others may have asked for theirs by what this one has not got
	})
}

// mostVerboseLocked returns the most verbose level of the sessions; 0 where none has one.
func (p *process) mostVerboseLocked() (most level) {
	for s := range p.sessions {
		if s.level != 0 && (most == 0 || s.level < most) {
			most = s.level
		}
	}
	return most
}

// setMostVerbose tells the server the most verbose level, if it may have another: a session has gone, or was refused its own. Where
// no session has one, it keeps what it has.
func (p *process) setMostVerbose(ctx context.Context) {
	if p.setting.take(ctx, p) != nil {
		return
	}
	defer p.setting.give()
	p.mu.Lock()
	most, changed := p.mostVerboseLocked(), false
	if most != 0 && most != p.level {
		p.level, changed = most, true
	}
	p.mu.Unlock()
	if changed && !p.ask(ctx, mcp.MethodLoggingSetLevel, []byte(`{"level":"`+most.String()+`"}`)) {
		p.mu.Lock()
		p.level = 0
		p.mu.Unlock()
	}
}

// ask sends a request of the daemon's own, waits for the answer and reports whether it is a result.
func (p *process) ask(ctx context.Context, method mcp.Method, params []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	body := slices.Concat([]byte(`{"jsonrpc":"2.0","id":0,"method":"`+method.String()+`","params":`), params, []byte("}"))
	answered := make(chan mcp.Kind, 1)
	id, f := p.lease.Request(ctx, body, scanned(body), func(_ []byte, m *mcp.Message) {
		if m.Kind.IsAnswer() {
			answered <- m.Kind
		}
	})
	if f != nil {
		return false
	}
	defer p.lease.Forget(id)
	select {
	case kind := <-answered:
		return kind == mcp.KindResult
	case <-p.lease.Ended():
	case <-ctx.Done():
	}
	return false
}
