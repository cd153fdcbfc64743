package dispatch_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
)

// ending is one way in which a sending ends at once.
type ending struct {
	name string
	play play
	says effect
	read bool // a read is sent again
	all  bool // whatever it is, it is sent again
	head bool // it is a stream with a good head
}

var goodEndings = []ending{
	{"good", answers, sGood, false, false, false},
	{"a good stream", streams(progress, response), sGood, false, false, true},
	{"good bytes", raws(200, io.EOF), sGood, false, false, true},
	{"a JSON-RPC error", rpc(200, ownError), sGood, false, false, false},
	{"500 with a JSON-RPC error", working(rpc(500, ownError)), sGood, false, false, false},
	{"503 with a JSON-RPC error", rpc(503, nullError), sGood, false, false, false},
	{"504 with an event", sse(504, ownError), sGood, false, false, false},
	{"403", rpc(403, "no"), sGood, false, false, false},
	{"429", says(429, "Retry-After", "1"), sGood, true, false, false},
	{"rubbish", fails(rubbish), sGood, false, false, false},
}

var badEndings = []ending{
	{"500", rpc(500, html), sFail, false, false, false},
	{"500 with another's error", rpc(500, otherError), sFail, false, false, false},
	{"502", working(rpc(502, "")), sFail, true, false, false},
	{"503", rpc(503, html), sFail, true, false, false},
	{"503, in a second", says(503, "Retry-After", "1"), sFail, true, false, false},
	{"504 bytes", raws(504, io.EOF), sFail, true, false, false},
	{"refused", fails(refused), sRefused, true, true, false},
	{"not reached", fails(unreachable), sFail, true, true, false},
	{"broke off", working(fails(brokeOff)), sFail, true, false, false},
	{"no dial", fails(noDial), sFail, false, false, false},
	{"silence", fails(timeoutOf(true)), sFail, false, false, false},
	{"a stream cut", streams(progress, ends(&cutOff)), sFail, false, false, true},
	{"a stream cut at once", streams(ends(&cutOff)), sFail, true, false, true},
	{"a stream that ends", streams(comment, comment), sFail, true, false, true},
	{"bytes cut", raws(200, &cutOff), sFail, false, false, true},
}

var noEndings = []ending{
	{"no port", fails(noPort), sNothing, true, true, false},
	{"a timeout beside others", fails(timeoutOf(false)), sNothing, false, false, false},
	{"no connection free", fails(poolWait), sNothing, false, false, false},
	{"left", fails(leaves), sNothing, false, false, false},
	{"cut, can be resumed", streams(priming, ends(&cutOff)), sNothing, false, false, true},
	{"a lost session", rpc(404, "session not found"), sNothing, false, false, false},
	{"410", rpc(410, ""), sNothing, false, false, false},
}

// stress is a stage, the reference, and chance.
type stress struct {
	*stage
	ref   *reference
	rng   *rand.Rand
	mood  mood
	trace []string
	seen  map[string]int
}

// mood is what the server is like for a while.
type mood struct {
	bad     int // of a hundred endings
	refuses bool
	turns   bool // every second call fails
	hangs   bool // most calls are long, and their agents leave
}

var moods = []mood{{bad: 0}, {bad: 5}, {bad: 30}, {bad: 48}, {bad: 90}, {bad: 80, refuses: true}, {turns: true}, {bad: 60, hangs: true}}

// fails reports whether the next call does.
func (s *stress) fails() bool {
	if s.mood.turns {
		s.mood.bad = 100 - s.mood.bad
	}
	return s.rng.IntN(100) < s.mood.bad
}

func (s *stress) pick() ending {
	switch bad := s.fails(); {
	case bad && s.mood.refuses:
		return badEndings[slices.IndexFunc(badEndings, func(e ending) bool { return e.says == sRefused })]
	case s.rng.IntN(25) == 0:
		return noEndings[s.rng.IntN(len(noEndings))]
	case bad:
		return badEndings[s.rng.IntN(len(badEndings))]
	}
	return goodEndings[s.rng.IntN(len(goodEndings))]
}

// of is what an ending means to a call: a probe is over with a good head, and proof enough where a session was lost.
func (e *ending) of(c *refCall) effect {
	if c.probe && (e.head || e.name == "a lost session" || e.name == "410") {
		return sGood
	}
	return e.says
}

// stressCalls are the calls, the sessions of which may be lost.
var stressCalls = []struct {
	call *mcp.Call
	kind kind
	read bool
}{
	{post(callBody, "Mcp-Session-Id", "s"), ordinary, false},
	{post(callBody, "Mcp-Session-Id", "s"), ordinary, false},
	{post(listBody, "Mcp-Session-Id", "s"), ordinary, true},
	{post(readBody, "Mcp-Session-Id", "s"), ordinary, true},
	{post(initBody, "Mcp-Session-Id", "s"), opening, false},
	{modernPost(discoverBody), discovering, true},
}

// once makes a call that ends at once, with its repeats.
func (s *stress) once() {
	k := stressCalls[s.rng.IntN(len(stressCalls))]
	all := []ending{s.pick(), s.pick(), s.pick()}
	server := s.servers[0]
	server.mu.Lock()
	server.plays = []play{all[0].play, all[1].play, all[2].play}
	server.calls, server.times = nil, nil
	server.mu.Unlock()
	s.ref.advance(time.Now())
	var c refCall
	allowed := s.ref.ask(&c, k.kind)
	_, f := s.do(s.tb.Context(), k.call)
	sent, _ := server.sent()
	if (sent > 0) != allowed || !allowed && (f == nil || f.Reason != mcp.ReasonBreakerOpen) {
		s.fatal("the call was sent %d times, allowed is %v: %v", sent, allowed, f)
	}
	for i := 1; i < sent; i++ {
		e := all[i-1]
		if !e.all && !(e.read && k.read) {
			s.fatal("sent again after %s", e.name)
		}
		s.ref.advance(server.times[i])
		if !s.ref.again(&c, k.kind) {
			s.fatal("sent again after %s, which the breaker does not allow", e.name)
		}
		s.seen["again"]++
	}
	s.ref.advance(time.Now())
	if sent > 0 {
		last := all[sent-1]
		s.note("%s: %d times, last %s", k.call.Message.Method, sent, last.name)
		s.ref.end(&c, last.of(&c))
	} else {
		s.seen["refused"]++
	}
}

// long begins a call that takes its time: whole, or as a stream with a head at once.
func (s *stress) long() {
	takes := time.Duration(s.rng.Int64N(int64(25 * time.Second)))
	leaves := time.Duration(s.rng.Int64N(int64(100 * time.Second)))
	if s.mood.hangs {
		leaves /= 20
	}
	bad, stream := s.fails(), s.rng.IntN(3) == 0
	p, c := after(takes, answers), &refCall{says: sGood}
	switch {
	case stream && bad:
		p, c.says = streams(progress, ends(&cutOff).after(takes)), sFail
	case stream:
		p = streams(progress, response.after(takes))
	case bad:
		p, c.says = after(takes, says(500)), sFail
	}
	s.servers[0].set(p)
	s.ref.advance(time.Now())
	c.ends = s.ref.now.Add(takes)
	if leaves < takes {
		c.ends, c.says = s.ref.now.Add(leaves), sNothing
	}
	before, _ := s.servers[0].sent()
	allowed := s.ref.ask(c, ordinary)
	ctx, cancel := context.WithTimeout(s.tb.Context(), leaves)
	go func() {
		defer cancel()
		s.do(ctx, post(callBody))
	}()
	synctest.Wait()
	if n, _ := s.servers[0].sent(); (n > before) != allowed {
		s.fatal("a long call was sent: %v, allowed: %v", n > before, allowed)
	}
	if !allowed {
		return
	}
	s.seen["long"]++
	s.note("a call of %v, stream %v, in the end %v", takes, stream, c.says)
	if c.probe && stream {
		s.ref.end(c, sGood)
	}
	s.ref.pending = append(s.ref.pending, c)
}

// beside does what no breaker refuses.
func (s *stress) beside() {
	good := !s.fails()
	p, v := play(answers), sGood
	if !good {
		p, v = says(500), sFail
	}
	s.servers[0].set(p)
	s.ref.advance(time.Now())
	if s.rng.IntN(2) == 0 {
		s.note("a GET, good %v", good)
		s.do(s.tb.Context(), of(mcp.LaneStream, ""))
		if good && s.ref.open {
			s.ref.alive()
		}
		return
	}
	s.note("an answer to the server, good %v", good)
	var c refCall
	s.ref.ask(&c, urgent)
	s.do(s.tb.Context(), of(mcp.LaneResponse, responseBody))
	if !good { // no answer was due
		v = sNothing
	}
	s.ref.end(&c, v)
}

func (s *stress) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%v %s (%s)", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...), s.ref.state()))
}

func (s *stress) fatal(format string, args ...any) {
	s.tb.Helper()
	for _, line := range s.trace[max(0, len(s.trace)-25):] {
		s.tb.Log(line)
	}
	s.tb.Fatalf(format, args...)
}

// pause is the time between two calls: mostly little.
func (s *stress) pause() time.Duration {
	most := 200 * time.Millisecond
	switch n := s.rng.IntN(100); {
	case n < 2:
		most = time.Minute
	case n < 15:
		most = 3 * time.Second
	}
	return 1 + time.Duration(s.rng.Int64N(int64(most)))
}

// TestStageAgainstReference: over ten thousand calls with every outcome, long and short, the stage and the reference agree
// on which are allowed and on the breaker's state after each.
func TestStageAgainstReference(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			s := &stress{stage: newStage(t, setup{}, newServer(answers)), ref: newReference(), rng: rand.New(rand.NewPCG(seed, 9)), seen: map[string]int{}}
			for n := range 10_000 {
				if n%60 == 0 {
					s.mood = moods[s.rng.IntN(len(moods))]
				}
				switch k := s.rng.IntN(20); {
				case k < 14 && !s.mood.hangs:
					s.once()
				case k < 18:
					s.long()
				default:
					s.beside()
				}
				s.agree()
				pass(s.pause())
				s.agree()
			}
			for _, what := range []string{breaker.Closed, breaker.Open, breaker.HalfOpen, "again", "refused", "long"} {
				if s.seen[what] < 200 {
					t.Errorf("seed %d: %d times %s only: %v", seed, s.seen[what], what, s.seen)
				}
			}
			pass(time.Hour)
			synctest.Wait()
			s.idle()
		})
	}
}

// agree compares the states.
func (s *stress) agree() {
	s.tb.Helper()
	synctest.Wait()
	s.ref.advance(time.Now())
	got := s.breakers[0].State()
	s.seen[got]++
	if got != s.ref.state() {
		s.fatal("the breaker is %s, the reference %s", got, s.ref.state())
	}
}
