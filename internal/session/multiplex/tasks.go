package multiplex

import (
	"bytes"
	"context"
	"math"

	"fluentd-perf/internal/mcp"
)

// The bounds of what is remembered of tasks (2025-11-25, basic/utilities/tasks).
const (
	maxTasks  = 10_000 // of one process, whose sessions are known
	maxTokens = 256    // of them whose progress goes on
	maxTaskID = 1_024  // bytes of an id or a token: with a longer one a task is nobody's, or its progress ends with the call
)

// tasks are the tasks of a process by the sessions that began them: to the server they are all one client's. Guarded by process.mu.
type tasks struct {
	owners bounded[*Session]   // by id
	tokens bounded[*taskToken] // by the token that the process knows
}

// taskToken is the progress token of a request that asked for a task: its progress goes on when the request has been answered.
type taskToken struct {
	s     *Session
	token []byte // the agent's, raw
}

// bounded is a map that forgets what was put in first.
type bounded[V any] struct {
	by    map[string]V
	order []string // as they were put, from next on
	next  int
}

func (b *bounded[V]) put(limit int, key string, value V) {
	if b.by == nil {
		b.by = make(map[string]V)
	}
	if _, known := b.by[key]; !known {
		if len(b.order) < limit {
			b.order = append(b.order, key)
		} else {
			delete(b.by, b.order[b.next])
			b.order[b.next] = key
			b.next = (b.next + 1) % limit
		}
	}
	b.by[key] = value
}

// requestTask sends a request for a task. Its progress token goes down as one of the daemon's own, by which its progress is known
// after the answer too.
func (s *Session) requestTask(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	p := s.p
	var own []byte
	if token := m.ProgressToken.Of(body); token != nil && len(token) <= maxTaskID {
		own = p.x.ids.Next()
		token := bytes.Clone(token)
		p.mu.Lock()
		p.tokens.put(maxTokens, string(own), &taskToken{s, token})
		p.mu.Unlock()
		renamed := *m
		body, m = renamed.Splice(nil, body, renamed.ProgressToken, own), &renamed
		next := take
		take = func(data []byte, m *mcp.Message) {
			if m.Method == mcp.MethodProgress {
				data = withToken(data, m, token)
			}
			next(data, m)
		}
	}
	return s.pass(ctx, body, m, take, func(data []byte, answer *mcp.Message) { s.noteTask(own, data, answer) })
}

// noteTask notes whose a task is, or that there is none.
func (s *Session) noteTask(token, data []byte, answer *mcp.Message) {
	id := ""
	if answer != nil && answer.Kind == mcp.KindResult {
		id, _ = mcp.Text(mcp.MemberOf(mcp.MemberOf(answer.Result.Of(data), "task"), "taskId"))
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case id == "" || len(id) > maxTaskID || s.released:
		delete(p.tokens.by, string(token))
	default:
		p.owners.put(maxTasks, id, s)
	}
}

// ownerLocked returns the session that began a task; nil where none of these did.
func (p *process) ownerLocked(id []byte) *Session {
	text, _ := mcp.Text(id)
	return p.owners.by[text]
}

// ownsTask reports whether a request names a task that its session began. A server that declares no tasks refuses it by itself.
func (s *Session) ownsTask(body []byte, m *mcp.Message) bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return !s.p.hasTasks || s.p.ownerLocked(mcp.MemberOf(m.Params.Of(body), "taskId")) == s
}

// dropTasksLocked forgets a session that goes.
func (p *process) dropTasksLocked(s *Session) {
	for id, owner := range p.owners.by {
		if owner == s {
			delete(p.owners.by, id)
		}
	}
	for token, of := range p.tokens.by {
		if of.s == s {
			delete(p.tokens.by, token)
		}
	}
}

// ownTasks leaves the session's own tasks in a list of tasks.
func (s *Session) ownTasks(take func([]byte, *mcp.Message)) func([]byte, *mcp.Message) {
	return func(data []byte, m *mcp.Message) {
		if m.Kind == mcp.KindResult && m.Result.Present() {
			data = s.withOwnTasks(data, m)
		}
		take(data, m)
	}
}

func (s *Session) withOwnTasks(data []byte, m *mcp.Message) []byte {
	result := m.Result.Of(data)
	at, err := mcp.Member(result, "tasks")
	switch {
	case err != nil: // it cannot be told what is in it
		return m.Splice(nil, data, m.Result, []byte(`{"tasks":[]}`))
	case !at.Present():
		return data
	}
	list := at.Of(result)
	kept := []byte{'['}
	elements, err := mcp.Elements(nil, list, math.MaxInt)
	for _, element := range elements {
		one := element.Of(list)
		s.p.mu.Lock()
		own := err == nil && s.p.ownerLocked(mcp.MemberOf(one, "taskId")) == s
		s.p.mu.Unlock()
		if !own {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, one...)
	}
	at.Start, at.End = at.Start+m.Result.Start, at.End+m.Result.Start
	return m.Splice(nil, data, at, append(kept, ']'))
}

// lateProgressLocked gives progress of a task to the session that began it. All other progress that names no request under way is of a
// token that no agent gave, and there are clients that end a connection on which one comes.
func (p *process) lateProgressLocked(data []byte, m *mcp.Message) {
	token := mcp.MemberOf(m.Params.Of(data), "progressToken")
	if of := p.tokens.by[string(token)]; of != nil {
		of.s.deliver(of.s.other, withToken(data, m, of.token), m)
	}
}

// withToken puts another token into a progress notification.
func withToken(data []byte, m *mcp.Message, token []byte) []byte {
	params := m.Params.Of(data)
	at, err := mcp.Member(params, "progressToken")
	if err != nil || !at.Present() {
		return data
	}
	at.Start, at.End = at.Start+m.Params.Start, at.End+m.Params.Start
	return m.Splice(nil, data, at, token)
}
