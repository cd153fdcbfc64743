package multiplex

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of subscriptions to resources.
const (
	maxURI        = 2 << 10          // bytes
	maxURIs       = 1_000            // of a session
	maxURIsOfAll  = 10_000           // of all sessions of a process
	maxSubscribed = 4 << 10          // bytes of an answer that is given to those who subscribe later
	settleTime    = 30 * time.Second // for what follows from the end of a session
)

// subscriptions are the resources of which the sessions of a process want to know the updates. The server knows of one client: the
// first session that subscribes asks it, and so does the last one that unsubscribes. Guarded by process.mu.
type subscriptions struct {
	byURI map[string]*subscription
	uris  int // of all sessions together
}

// subscription is one resource.
type subscription struct {
	sessions  map[*Session]struct{}
	result    []byte        // raw, of the subscribe that holds at the server; nil: nobody knows of one, so the next session asks
	asking    chan struct{} // closed when the server has answered what it is asked; nil: nothing
	waiting   int           // sessions that wait for that, to subscribe
	unsettled bool          // a subscribe was given up that the server may have carried out
}

// uriOf returns the key of a resource. One that is no Unicode is its bytes.
func uriOf(value []byte) string {
	if text, ok := mcp.Text(value); ok {
		return text
	}
	return string(value)
}

// claimLocked has a session be the one that asks the server about a resource. Where another one asks, it returns the channel that is
// closed when that is over.
func (p *process) claimLocked(uri string) (sub *subscription, others <-chan struct{}) {
	sub = p.byURI[uri]
	if sub == nil {
		sub = &subscription{sessions: make(map[*Session]struct{})}
		p.byURI[uri] = sub
	}
	return sub, sub.asking
}

// doneLocked ends the asking, and forgets a resource to which nobody is subscribed.
func (p *process) doneLocked(uri string, sub *subscription) {
	if sub.asking != nil {
		close(sub.asking)
		sub.asking = nil
	}
	if len(sub.sessions) == 0 && !sub.unsettled {
		delete(p.byURI, uri)
	}
	p.undoLocked(uri, sub)
}

// undoLocked has the server unsubscribe from a resource to which it may have subscribed for a session that did not wait, where no other
// wants it.
func (p *process) undoLocked(uri string, sub *subscription) {
	if sub.unsettled && len(sub.sessions) == 0 && sub.waiting == 0 && sub.asking == nil {
		p.settleLater(func(ctx context.Context) { p.unsubscribe(ctx, uri) })
	}
}

func (p *process) addLocked(sub *subscription, s *Session) {
	if _, has := sub.sessions[s]; !has && !s.released {
		sub.sessions[s] = struct{}{}
		s.uris++
		p.uris++
	}
}

func (p *process) removeLocked(sub *subscription, s *Session) {
	if _, has := sub.sessions[s]; has {
		delete(sub.sessions, s)
		s.uris--
		p.uris--
	}
}

// awaitAsked waits for the end of another's asking.
func (p *process) awaitAsked(ctx context.Context, others <-chan struct{}) *mcp.Failure {
	select {
	case <-others:
		return nil
	case <-p.ended:
		return p.gone()
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentNo)
	}
}

// subscribe subscribes a session to a resource. The first one asks the server, and so does the next one if that was refused. Where the
// server is subscribed already, its answer to that is the answer.
func (s *Session) subscribe(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	p, uri := s.p, uriOf(m.URI.Of(body))
	if len(uri) > maxURI {
		return nil, tooManySubscriptions("a uri of more than 2 KiB is not subscribed to in a process that several sessions share")
	}
	p.mu.Lock()
	for {
		if s.uris >= maxURIs || p.uris >= maxURIsOfAll {
			if sub := p.byURI[uri]; sub != nil { // it has waited for this one
				p.undoLocked(uri, sub)
			}
			p.mu.Unlock()
			return nil, tooManySubscriptions("too many subscriptions of this session, or of all that share the server's process")
		}
		sub, others := p.claimLocked(uri)
		switch {
		case others != nil:
			sub.waiting++
			p.mu.Unlock()
			f := p.awaitAsked(ctx, others)
			p.mu.Lock()
			if sub.waiting--; f != nil {
				p.undoLocked(uri, sub)
				p.mu.Unlock()
				return nil, f
			}
		case sub.result != nil:
			p.addLocked(sub, s)
			p.mu.Unlock()
			s.reply(body, m, take, `"result":`+string(sub.result))
			return nil, nil
		default:
			sub.asking = make(chan struct{})
			p.mu.Unlock()
			return s.pass(ctx, body, m, take, func(data []byte, answer *mcp.Message) { s.subscribed(uri, sub, data, answer) })
		}
	}
}

func tooManySubscriptions(message string) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeOverloaded, Reason: mcp.ReasonSubscriptions, Sent: mcp.SentNo, Message: message}
}

// subscribed takes the answer to the subscribe of a session that asked.
func (s *Session) subscribed(uri string, sub *subscription, data []byte, answer *mcp.Message) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if answer != nil && answer.Kind == mcp.KindResult {
		if result := answer.Result.Of(data); len(result) <= maxSubscribed {
			sub.result = bytes.Clone(result)
		}
		p.addLocked(sub, s)
	}
	sub.unsettled = sub.unsettled || answer == nil || len(sub.sessions) == 0 && answer.Kind == mcp.KindResult
	p.doneLocked(uri, sub)
}

// unsubscribe takes a session from a resource. The last one asks the server, and so does one that was never subscribed where nobody
// else is: the answer is the server's. While others are subscribed, the server must not know.
func (s *Session) unsubscribe(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	p, uri := s.p, uriOf(m.URI.Of(body))
	for {
		p.mu.Lock()
		sub, others := p.claimLocked(uri)
		_, has := sub.sessions[s]
		switch {
		case others != nil:
			p.mu.Unlock()
			if f := p.awaitAsked(ctx, others); f != nil {
				return nil, f
			}
		case len(sub.sessions) == 0 || has && len(sub.sessions) == 1:
			sub.asking = make(chan struct{})
			p.mu.Unlock()
			return s.pass(ctx, body, m, take, func(_ []byte, answer *mcp.Message) { s.unsubscribed(uri, sub, answer) })
		default:
			p.removeLocked(sub, s)
			p.mu.Unlock()
			s.reply(body, m, take, `"result":{}`)
			return nil, nil
		}
	}
}

// unsubscribed takes the answer to the unsubscribe of a session that asked. Where there is none, the next one who wants to subscribe
// asks the server again.
func (s *Session) unsubscribed(uri string, sub *subscription, answer *mcp.Message) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case answer == nil:
		sub.result = nil
	case answer.Kind == mcp.KindResult:
		sub.result, sub.unsettled = nil, false
		p.removeLocked(sub, s)
	}
	p.doneLocked(uri, sub)
}

// leaveLocked takes a session from all resources, and returns those to which no other is subscribed.
func (p *process) leaveLocked(s *Session) (left []string) {
	if s.uris == 0 {
		return nil
	}
	for uri, sub := range p.byURI {
		if _, has := sub.sessions[s]; !has {
			continue
		}
		if p.removeLocked(sub, s); len(sub.sessions) == 0 {
			left = append(left, uri)
		}
	}
	return left
}

// unsubscribe asks the server to unsubscribe, if nobody is subscribed to the resource.
func (p *process) unsubscribe(ctx context.Context, uri string) {
	p.mu.Lock()
	for {
		sub := p.byURI[uri]
		if sub == nil || len(sub.sessions) > 0 {
			break
		}
		if others := sub.asking; others != nil { // a session that has come, or this one's own
			p.mu.Unlock()
			if p.awaitAsked(ctx, others) != nil {
				return
			}
			p.mu.Lock()
			continue
		}
		sub.asking = make(chan struct{})
		p.mu.Unlock()
		text, _ := json.Marshal(uri) // a text is never refused
		p.ask(ctx, mcp.MethodResourcesUnsubscribe, append(append([]byte(`{"uri":`), text...), '}'))
		p.mu.Lock()
		sub.result, sub.unsettled = nil, false // where it has not answered either, nothing else can be done
		p.doneLocked(uri, sub)
		break
	}
	p.mu.Unlock()
}

// subscribersLocked returns the sessions that have subscribed to a resource that was updated, or to one that it is a part of: the
// schema allows both (2025-11-25, schema, "ResourceUpdatedNotification"). A part is told by its uri. Where it is not, and the process
// has one session with subscriptions alone, it is that one's.
func (p *process) subscribersLocked(value []byte) (all []*Session) {
	uri := uriOf(value)
	seen := make(map[*Session]bool)
	add := func(uri string) {
		if sub := p.byURI[uri]; sub != nil {
			for s := range sub.sessions {
				if !seen[s] {
					seen[s] = true
					all = append(all, s)
				}
			}
		}
	}
	add(uri)
	for i := 0; i < min(len(uri), maxURI); i++ {
		if strings.IndexByte("/?#", uri[i]) >= 0 {
			add(uri[:i])
			add(uri[:i+1])
		}
	}
	if s := p.onlyLocked(); len(all) == 0 && s != nil && s.uris > 0 {
		return []*Session{s}
	}
	return all
}
