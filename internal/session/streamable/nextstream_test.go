package streamable

import (
	"strings"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/mcp"
)

// waiting returns what waits for the next stream of a session.
func (s *session) waiting() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, e := range s.get.events {
		if !e.read {
			all = append(all, string(e.data))
		}
	}
	return strings.Join(all, " ")
}

var (
	asks     = messageOf(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`)
	note     = messageOf(`{"jsonrpc":"2.0","method":"notifications/message"}`)
	later    = messageOf(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	progress = messageOf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}`)
	request  = messageOf(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
)

// posted sends a request of an agent's.
func (s *session) posted(t *testing.T, server *leaving, c *mcp.Call) *reader {
	t.Helper()
	r := s.reader(t.Context(), c, 1)
	server.Enter()
	if f := s.send(t.Context(), s.link, r.st, request.data, request.m); f != nil {
		t.Error(f)
	}
	return r
}

// noNextStream are the ways in which a request's stream is not the agent's next one.
var noNextStream = map[string]func(t *testing.T, s *session, server *leaving){
	"not sent": func(t *testing.T, s *session, server *leaving) {
		server.refuses = &mcp.Failure{Sent: mcp.SentNo}
		if _, f := s.request(t.Context(), &mcp.Call{Body: request.data, Message: *request.m}); f == nil {
			t.Error("it was sent")
		}
	},
	"not read": func(t *testing.T, s *session, server *leaving) {
		r := s.posted(t, server, &mcp.Call{})
		server.take(progress.data, progress.m)
		_ = r.Close() // it returns nil
	},
	"an array of the daemon's": func(t *testing.T, s *session, server *leaving) {
		s.posted(t, server, &mcp.Call{Lane: mcp.LaneBatch})
		s.says(later)
	},
	"there is a GET stream": func(t *testing.T, s *session, server *leaving) {
		if _, f := s.open(t.Context(), &mcp.Call{Lane: mcp.LaneStream}); f != nil {
			t.Error(f)
		}
		s.posted(t, server, &mcp.Call{})
	},
}

// TestWaitsOn holds that what waits for the next stream waits on where a request's is none: it is not sent, its agent leaves before it
// has got anything, it is in an array that the daemon has made of calls, of which nobody reads more than answers, or GET is open.
func TestWaitsOn(t *testing.T) {
	for name, post := range noNextStream {
		t.Run(name, func(t *testing.T) {
			store := NewStore(StoreOptions{})
			defer store.Close()
			f := New(Options{Upstream: "x", Store: store})
			defer f.Close()
			s, server := opened(f, "s")
			s.says(asks)
			s.says(note)
			post(t, s, server)
			want := string(asks.data) + " " + string(note.data)
			if name == "an array of the daemon's" {
				want += " " + string(later.data)
			}
			if got := s.waiting(); got != want || len(s.asked) != 1 {
				t.Errorf("%s waits, want %s; %d requests", got, want, len(s.asked))
			}
			s.checkSizes(t)
			for _, a := range s.asked {
				a.timer.Stop()
			}
			for _, c := range s.calls {
				c.timer.Stop()
			}
		})
	}
}

// checkSizes checks the sums of what is kept.
func (s *session) checkSizes(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all int64
	unread := make(map[*stream]int64)
	for _, e := range s.log {
		all += e.bytes()
		if !e.read {
			unread[e.st] += e.bytes()
		}
	}
	if n := s.f.opts.Store.buffered.Load(); n != all || s.size != all {
		t.Errorf("%d and %d bytes, want %d", n, s.size, all)
	}
	for _, st := range s.streams {
		if st.size != unread[st] {
			t.Errorf("stream %d: %d bytes are unread, want %d", st.number, st.size, unread[st])
		}
	}
	if s.get.size != unread[s.get] {
		t.Errorf("GET: %d bytes are unread, want %d", s.get.size, unread[s.get])
	}
}

// TestPassedOn holds that what waited is unread on the stream of a request that is sent, and that a GET stream which is opened while a
// request is not sent gets it.
func TestPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore(StoreOptions{})
		defer store.Close()
		f := New(Options{Upstream: "x", Store: store})
		defer f.Close()
		s, server := opened(f, "s")
		s.says(asks)
		got := make(chan mcp.Event, 1)
		server.refuses = &mcp.Failure{Sent: mcp.SentNo}
		server.meanwhile = func() {
			s.checkSizes(t)
			if n := s.waiting(); n != "" {
				t.Errorf("%s waits", n)
			}
			res, f := s.open(t.Context(), &mcp.Call{Lane: mcp.LaneStream})
			if f != nil {
				t.Error(f)
				return
			}
			go func() {
				ev, _ := res.Events.Next()
				got <- ev
			}()
			synctest.Wait()
		}
		if _, f := s.request(t.Context(), &mcp.Call{Body: request.data, Message: *request.m}); f == nil {
			t.Error("it was sent")
		}
		synctest.Wait()
		if len(got) != 1 {
			t.Fatal("there is nothing on GET")
		}
		if ev := <-got; string(ev.Data) != string(asks.data) {
			t.Errorf("on GET: %s", ev.Data)
		}
		s.checkSizes(t)
		for _, a := range s.asked {
			a.timer.Stop()
		}
	})
}
