package admission_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

// model is Admission written down as plainly as can be: the rounds one after the other, and everything by looking at all.
type model struct {
	slots, places int
	wait          time.Duration
	inFlight      int
	agents        []*modelAgent // those that have calls waiting
	turns         int           // given out so far
}

type modelAgent struct {
	name   string
	credit int
	since  int // the order in which turns were asked for
	calls  []*modelCall
}

type modelCall struct {
	*caller
	agent    string
	cost     int
	deadline time.Time
	expected string
}

func (m *model) agent(name string) *modelAgent {
	for _, a := range m.agents {
		if a.name == name {
			return a
		}
	}
	return nil
}

func (m *model) waiting() (n int) {
	for _, a := range m.agents {
		n += len(a.calls)
	}
	return n
}

// arrive says what becomes of a new call. Where another one has to go, it is any of those in gone.
func (m *model) arrive(c *modelCall) (gone []*modelCall) {
	c.expected = "waits"
	if m.inFlight < m.slots {
		m.inFlight++
		c.expected = "admitted"
		return nil
	}
	if m.waiting() == m.places {
		own := 1
		if a := m.agent(c.agent); a != nil {
			own += len(a.calls)
		}
		most := 0
		for _, a := range m.agents {
			most = max(most, len(a.calls))
		}
		if most <= own {
			c.expected = "queue_full"
			return nil
		}
		for _, a := range m.agents {
			if len(a.calls) == most {
				gone = append(gone, a.calls[most-1])
			}
		}
	}
	return gone
}

func (m *model) queue(c *modelCall) {
	a := m.agent(c.agent)
	if a == nil {
		m.turns++
		a = &modelAgent{name: c.agent, since: m.turns}
		m.agents = append(m.agents, a)
	}
	a.calls = append(a.calls, c)
}

func (m *model) remove(c *modelCall) {
	a := m.agent(c.agent)
	a.calls = slices.DeleteFunc(a.calls, func(x *modelCall) bool { return x == c })
	m.agents = slices.DeleteFunc(m.agents, func(x *modelAgent) bool { return len(x.calls) == 0 })
}

func (m *model) release() {
	if m.inFlight--; len(m.agents) == 0 {
		return
	}
	for {
		var next *modelAgent
		for _, a := range m.agents {
			if a.credit >= a.calls[0].cost && (next == nil || a.since < next.since) {
				next = a
			}
		}
		if next == nil { // a new round
			for _, a := range m.agents {
				a.credit++
			}
			continue
		}
		next.calls[0].expected = "admitted"
		m.inFlight++
		m.turns++
		next.credit, next.since = 0, m.turns
		m.remove(next.calls[0])
		return
	}
}

// expire refuses who has waited long enough, the earliest first.
func (m *model) expire(now time.Time) {
	var old []*modelCall
	for _, a := range m.agents {
		for _, c := range a.calls {
			if !c.deadline.After(now) {
				old = append(old, c)
			}
		}
	}
	slices.SortFunc(old, func(a, b *modelCall) int { return cmp.Compare(a.deadline.UnixNano(), b.deadline.UnixNano()) })
	for _, c := range old {
		c.expected = "queue_wait"
		m.remove(c)
	}
}

// TestAgainstModel does what comes to mind, a thousand times over, and compares each call and each number with the model.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { againstModel(t, rand.New(rand.NewPCG(seed, 1)), 600) })
		})
	}
}

func againstModel(t *testing.T, r *rand.Rand, steps int) {
	m := &model{slots: 1 + r.IntN(4), places: r.IntN(12), wait: time.Duration(50+r.IntN(400)) * time.Millisecond}
	total := admission.NewTotal(100)
	a := admission.New(admission.Options{
		Upstream: "files", MaxInFlight: m.slots, Queue: m.places, QueueWait: m.wait, Total: total,
	})
	g := &gate{Admission: a, tb: t}
	agents := 1 + r.IntN(6)
	var all []*modelCall
	those := func(state string) (some []*modelCall) {
		for _, c := range all {
			if c.expected == state {
				some = append(some, c)
			}
		}
		return some
	}
	for range steps {
		held, queued := those("admitted"), those("waits")
		switch op := r.IntN(10); {
		case op < 5:
			c := &modelCall{agent: fmt.Sprint(r.IntN(agents) * r.IntN(2)), cost: 1 + r.IntN(3)*r.IntN(3), deadline: time.Now().Add(m.wait)}
			call := request(c.agent)
			call.Body = make([]byte, (c.cost-1)<<14+r.IntN(1<<14))
			gone := m.arrive(c)
			c.caller = g.ask("", call)
			if gone != nil {
				i := slices.IndexFunc(gone, func(x *modelCall) bool { return x.state() == "queue_full" })
				if i < 0 {
					t.Fatalf("none of %d gave way", len(gone))
				}
				gone[i].expected = "queue_full"
				m.remove(gone[i])
			}
			if c.expected == "waits" {
				m.queue(c)
			}
			all = append(all, c)
		case op < 8 && len(held) > 0:
			c := held[r.IntN(len(held))]
			m.release()
			c.expected = "over"
			c.leave()
		case op == 8 && len(queued) > 0:
			c := queued[r.IntN(len(queued))]
			c.expected = string(mcp.ReasonCanceled)
			m.remove(c)
			c.cancel(nil)
		default:
			pass(time.Duration(r.IntN(100)) * time.Millisecond)
			m.expire(time.Now())
		}
		pass(time.Millisecond) // so that no two deadlines are equal
		m.expire(time.Now())
		synctest.Wait()
		all = compare(t, all)
		g.stats(m.inFlight, m.waiting())
		if total.InFlight() != m.inFlight {
			t.Fatalf("%d in all, want %d", total.InFlight(), m.inFlight)
		}
	}
	for _, c := range all {
		c.cancel(nil)
	}
	synctest.Wait()
	for _, c := range all {
		c.slot()
	}
	g.stats(0, 0)
}

// compare checks every call, and returns those that are not over.
func compare(t *testing.T, all []*modelCall) (left []*modelCall) {
	t.Helper()
	for _, c := range all {
		switch c.expected {
		case "over":
			continue
		case "waits", "admitted":
			left = append(left, c)
		}
		c.want(c.expected)
	}
	return left
}
