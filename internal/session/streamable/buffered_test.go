package streamable

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

// opened puts a session with a process into the Front's Store.
func opened(f *Front, id string) (*session, *leaving) {
	s := newSession(f, id, [32]byte{})
	s.initialize = []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize"}`)
	server := &leaving{entries: 1_000, ended: make(chan struct{})}
	s.link = &link{s: s, server: server}
	f.opts.Store.add(s)
	return s, server
}

// message is what a process says.
type message struct {
	data []byte
	m    *mcp.Message
}

func messageOf(format string, args ...any) message {
	data := fmt.Appendf(nil, format, args...)
	return message{data, scanned(data)}
}

// says has the process of a session say what no request asked for.
func (s *session) says(one message) { s.route(s.link, one.data, one.m) }

// answers sends a request of an agent that has left, and has the process answer it.
func (s *session) answers(t *testing.T, server *leaving, one message) {
	t.Helper()
	r := s.reader(t.Context(), &mcp.Call{}, 1)
	_ = r.Close() // it returns nil
	if !server.Enter() {
		t.Fatal("not entered")
	}
	if f := s.send(t.Context(), s.link, r.st, request.data, request.m); f != nil {
		t.Fatal(f)
	}
	server.take(one.data, one.m)
}

// TestBufferedInAll holds that the events of all sessions have a bound, and that those of the sessions that were used longest ago go: one
// that is used keeps its own, and a request of a server's that waits for a stream is not refused for what others left.
func TestBufferedInAll(t *testing.T) {
	x := strings.Repeat("x", 800<<10)
	large := messageOf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"x":%q}}`, x)
	answer := messageOf(`{"jsonrpc":"2.0","id":1,"result":{"x":%q}}`, x)
	for name, fill := range map[string]func(t *testing.T, s *session, server *leaving){
		"messages": func(_ *testing.T, s *session, _ *leaving) { s.says(large) },
		"answers":  func(t *testing.T, s *session, server *leaving) { s.answers(t, server, answer) },
	} {
		t.Run(name, func(t *testing.T) {
			store := NewStore(StoreOptions{})
			defer store.Close()
			f := New(Options{Upstream: "x", Store: store})
			defer f.Close()
			var all []*session
			for i := range 100 {
				s, server := opened(f, fmt.Sprint(i))
				all = append(all, s)
				fill(t, s, server)
				if i == 50 {
					store.find(f, "7")
				}
			}
			checkKept(t, all)
			for i := range 20 {
				s, server := opened(f, fmt.Sprint("asks ", i))
				s.says(asks)
				fill(t, s, server)
				if len(s.asked) != 1 || server.inside != 1 || len(s.log) != 2 {
					t.Errorf("%d: %d requests wait, %d events are kept", i, len(s.asked), len(s.log))
				}
				for _, a := range s.asked {
					a.timer.Stop()
				}
			}
		})
	}
}

// checkKept checks which of the sessions have their event still, of which the one with the number 7 was used late.
func checkKept(t *testing.T, all []*session) {
	t.Helper()
	if n := all[0].f.opts.Store.buffered.Load(); n > maxBuffered || n < maxBuffered-roomMade-1<<20 {
		t.Errorf("%d bytes are kept", n)
	}
	kept := func(s *session) bool { return len(s.log) == 1 }
	if first := slices.IndexFunc(all, kept); first != 7 {
		t.Errorf("the first that is kept is that of %d", first)
	}
	oldest := 8 + slices.IndexFunc(all[8:], kept)
	if i := oldest + slices.IndexFunc(all[oldest:], func(s *session) bool { return !kept(s) }); i >= oldest {
		t.Errorf("that of %d is lost, and that of %d is kept", i, oldest)
	}
}

// TestBufferedIsGivenBack holds that the events of a session that goes on in another Front, or has ended, count no longer: those that are
// being read, as soon as they are.
func TestBufferedIsGivenBack(t *testing.T) {
	answer := messageOf(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	for name, part := range map[string]func(f *Front, s *session) *Front{
		"closed": func(f *Front, s *session) *Front {
			f.opts.Store.release(f)
			return nil
		},
		"reloaded": func(f *Front, s *session) *Front {
			next := New(Options{Upstream: "x", Store: f.opts.Store})
			f.opts.Store.find(next, s.id)
			return next
		},
		"ended": func(f *Front, s *session) *Front {
			f.opts.Store.remove(s)
			s.end()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := NewStore(StoreOptions{})
			defer store.Close()
			f := New(Options{Upstream: "x", Store: store})
			defer f.Close()
			s, server := opened(f, "s")
			s.says(note)                 // for a GET that does not come
			s.answers(t, server, answer) // for nobody
			r := s.reader(t.Context(), &mcp.Call{}, 2)
			r.st.addLocked(&event{data: note.data, m: *note.m}) // nobody else is there
			if n, want := store.buffered.Load(), s.size; n != want || len(s.log) != 3 {
				t.Fatalf("%d bytes, want %d, in %d events", n, want, len(s.log))
			}
			if next := part(f, s); next != nil {
				defer next.Close()
			}
			held := &event{data: note.data}
			if n, want := store.buffered.Load(), map[bool]int64{true: 0, false: held.bytes()}[name == "ended"]; n != want {
				t.Errorf("%d bytes while one event is to be read, want %d", n, want)
			}
			if ev, err := r.Next(); err != nil || string(ev.Data) != string(note.data) {
				t.Errorf("what was being read: %s, %v", ev.Data, err)
			}
			_ = r.Close() // it returns nil
			if n := store.buffered.Load(); n != 0 || s.size != 0 {
				t.Errorf("%d bytes, of which %d of the session's", n, s.size)
			}
			s.abandon(r)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.get.addLocked(&event{data: note.data, m: *note.m}) // its process says something yet
			if n := store.buffered.Load(); n != 0 {
				t.Errorf("%d bytes after the end", n)
			}
		})
	}
}
