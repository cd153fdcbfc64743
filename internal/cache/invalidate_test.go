package cache_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesLive is a stream that an agent has open and reads.
type rulesLive struct {
	rig  *rulesRig
	stop context.CancelFunc // the agent's

	feed chan mcp.Event // the server's
	over chan struct{}

	got  chan string   // what the agent gets
	done chan struct{} // it has left
}

// listen opens a GET stream of the session, or of the credential where the session is "".
func (r *rulesRig) listen(sessionID, credential string) *rulesLive {
	r.Helper()
	return r.open(rulesAsk{era: mcp.EraLegacy}.on(mcp.LaneStream).in(sessionID).by(credential))
}

func (r *rulesRig) open(a rulesAsk) *rulesLive {
	r.Helper()
	s := &rulesLive{rig: r, feed: make(chan mcp.Event), over: make(chan struct{}), got: make(chan string, 100), done: make(chan struct{})}
	r.server.mu.Lock()
	before := r.server.script
	r.server.mu.Unlock()
	r.script(func(int, *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 200, Header: header.List{}, Events: s}, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	res, err := r.caller.Call(ctx, a.call(r))
	if err != nil {
		r.Fatal(err)
	}
	r.script(before)
	go s.read(ctx, res)
	synctest.Wait()
	return s
}

// read is the agent.
func (s *rulesLive) read(ctx context.Context, res *mcp.Result) {
	defer close(s.done)
	leave := context.AfterFunc(ctx, func() { close(s.over) })
	defer leave()
	for {
		ev, err := res.Events.Next()
		if err != nil {
			res.Close()
			return
		}
		s.got <- string(ev.Data)
	}
}

func (s *rulesLive) Next() (mcp.Event, error) {
	select {
	case ev := <-s.feed:
		return ev, nil
	case <-s.over:
		return mcp.Event{}, io.EOF
	}
}

func (s *rulesLive) Close() error { return nil }

// say sends data, and checks that the agent gets it.
func (s *rulesLive) say(data string) {
	s.rig.Helper()
	s.feed <- mcp.Event{Data: []byte(data)}
	synctest.Wait()
	select {
	case got := <-s.got:
		if got != data {
			s.rig.Errorf("the agent got %q, want %q", got, data)
		}
	default:
		s.rig.Errorf("the agent did not get %q", data)
	}
}

// end ends the stream from the server's side, leave from the agent's.
func (s *rulesLive) end() {
	close(s.over)
	<-s.done
	s.stop()
	synctest.Wait()
}

func (s *rulesLive) leave() {
	s.stop()
	<-s.done
	synctest.Wait()
}

// rulesChanges are notifications, and which of rulesSix they invalidate.
var rulesChanges = map[string][]string{
	`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`:                                           {"tools/list"},
	`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{}}}`:                     {"tools/list"},
	`{"jsonrpc":"2.0","method":"notifications\/\u0074ools/list_changed"}`:                                     {"tools/list"},
	`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`:                                         {"prompts/list"},
	`{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`:                                       {"resources/list", "resources/templates/list"},
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}`:               {"resources/read"},
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:\/\/\/\u0061"}}`:       {"resources/read"},
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///b"}}`:               nil,
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///A"}}`:               nil,
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x","uri":"file:///a"}}`:     {"resources/read"},
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":1}}`:                         {"resources/read"},
	`{"jsonrpc":"2.0","method":"notifications/resources/updated"}`:                                            {"resources/read"},
	`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"notifications/tools/list_changed"}}`: nil,
	`{"jsonrpc":"2.0","id":1,"method":"notifications/tools/list_changed"}`:                                    nil,
	`[` + rulesProgress + `,{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}]`:                   {"tools/list"},
	`rubbish`: nil,
}

// TestNotifications holds that what a server says of changes counts when the agent has it, on whatever stream it comes.
func TestNotifications(t *testing.T) {
	for said, old := range rulesChanges {
		for on, tell := range map[string]func(r *rulesRig){
			"a GET stream": func(r *rulesRig) {
				s := r.listen("s", "z")
				defer s.end()
				s.say(said)
			},
			"an agent's listen": func(r *rulesRig) {
				s := r.open(rulesModern("subscriptions/listen").on(mcp.LaneListen).by("z"))
				defer s.end()
				s.say(said)
			},
			"a POST stream": func(r *rulesRig) { r.stream(said, rulesModern("ping").by("z")) },
			"the stream of a question": func(r *rulesRig) {
				r.stream(said, rulesModern("prompts/get").with(`"name":"p"`).by("z"))
			},
			"the stream of a list": func(r *rulesRig) { r.stream(said, rulesModern("server/discover").also(`"other":1`)) },
		} {
			if said == "rubbish" && on != "a GET stream" && on != "an agent's listen" {
				continue // what is no message ends a POST stream
			}
			for slow := range 2 {
				rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
					first := make(map[string]int)
					for method, params := range rulesSix {
						first[method] = r.asks(method, rulesModern(method).with(params)).n
					}
					tell(r)
					if slow > 0 {
						r.forget()
					}
					for method, params := range rulesSix {
						a := rulesModern(method).with(params)
						stays := true
						for _, gone := range old {
							stays = stays && gone != method
						}
						if what := on + ": " + said + ": " + method; stays {
							r.hits(what, first[method], a)
						} else {
							r.asks(what, a)
						}
					}
				})
			}
		}
	}
}

// stream makes a request that is answered on a stream with one more message before the answer.
func (r *rulesRig) stream(message string, a rulesAsk) {
	r.Helper()
	r.server.mu.Lock()
	before := r.server.script
	r.server.mu.Unlock()
	r.gives(func(c *mcp.Call) *mcp.Result {
		return rulesStream(c, rulesData(message)+rulesData(rulesAnswer(0, c, "")))
	})
	r.ask(a)
	r.script(before)
}

// TestNotificationsComeFirst holds that a change counts before the agent is told of it, and for answers that were under way.
func TestNotificationsComeFirst(t *testing.T) {
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		a := rulesModern("tools/list")
		first := r.asks("first", a)
		s := r.listen("s", "z")
		s.say(rulesProgress)
		r.hits("nothing has changed", first.n, a)
		s.got = make(chan string) // the agent is handed the event and does not take it
		s.feed <- mcp.Event{Data: []byte(changed)}
		synctest.Wait()
		r.asks("while it is handed on", a)
		<-s.got
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			s.feed <- mcp.Event{Data: []byte(changed)}
			<-s.got
			return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":9000`)), nil
		})
		if p := r.asks("a change while the server is at it", rulesModern("tools/list").by("b")); p.status() != "fwd=miss" {
			t.Error(p.status())
		}
		r.says(`"ttlMs":9000`)
		r.asks("the answer from before the change", a.by("b"))
		s.end()
	})
}

// TestPartsOfResources holds that a legacy server may name a part of what was read.
func TestPartsOfResources(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.initialize("s", "{}", "{}")
		s := r.listen("s", "a")
		defer s.end()
		read := func(uri string) rulesAsk { return rulesLegacy("resources/read").with(`"uri":"` + uri + `"`).in("s") }
		for uri, old := range map[string]bool{
			"file:///d": true, "file:///d/": true, "file:///d/e": true, "file:///d/e?f": true, "file:///d/e?f#g": true, "file:///": true,
			"file:///d/e?f#gh": false, "file:///d/ee": false, "file:///D": false, "file:///d/e?": false, "http:///d": false,
		} {
			first := r.asks(uri, read(uri))
			s.say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///d/e?f#g"}}`)
			if old {
				r.asks(uri, read(uri))
			} else {
				r.hits(uri, first.n, read(uri))
			}
		}
	})
}
