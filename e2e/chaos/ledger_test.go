// What agents were told, compared with what the servers did.

package chaos

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ledger is what the agents of a chaos run saw, and the faults found in it. Its methods are safe for concurrent use.
type ledger struct {
	mu       sync.Mutex // guards the following
	works    map[string]claim
	outcomes map[string]int           // by upstream and how a request ended
	steady   []time.Duration          // what calls of the upstream took that nobody harms
	slowest  map[string]time.Duration // by upstream
	late     int                      // requests that took longer than the daemon's own bounds allow on an idle machine
	faults   []string
	found    int // faults, those not kept included
}

// claim is what an agent was told of a call with a side effect.
type claim uint8

const (
	claimNone   claim = iota // an error, or nobody waited: it ran once or not at all
	claimDone                // an answer: it ran
	claimUnsent              // an error with `sent: no`: it did not run
)

func newLedger() *ledger {
	return &ledger{works: map[string]claim{}, outcomes: map[string]int{}, slowest: map[string]time.Duration{}}
}

// mostFaults bounds what is kept of them: one bug makes many.
const mostFaults = 30

// fault notes what must not be.
func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found++
	if len(l.faults) < mostFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// begin notes that a call with a side effect is about to be made. Every token is used once.
func (l *ledger) begin(token string) { l.claim(token, claimNone) }

// claim notes what came of it.
func (l *ledger) claim(token string, c claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works[token] = c
}

// count notes how a request ended, and after how long.
func (l *ledger) count(upstream, label string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[upstream+": "+label]++
	l.slowest[upstream] = max(l.slowest[upstream], took)
	if took > chaosPromise {
		l.late++
	}
}

func (l *ledger) countSteady(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steady = append(l.steady, took)
}

// judge compares what the agents were told with what the servers did: the lines of their journals by upstream.
func (l *ledger) judge(journals map[string]string) {
	l.mu.Lock()
	works := l.works
	l.mu.Unlock()
	runs := map[string]int{}
	for upstream, journal := range journals {
		for lines := bufio.NewScanner(strings.NewReader(journal)); lines.Scan(); {
			line := lines.Text()
			if about, ok := strings.CutPrefix(line, "! "); ok {
				l.fault("%s was asked: %s", upstream, about)
				continue
			}
			if _, made := works[line]; !made {
				l.fault("%s did %q, which no agent had asked for", upstream, line)
			} else if !strings.HasPrefix(line, upstream+"/") {
				l.fault("%s did %q, which was meant for another", upstream, line)
			}
			runs[line]++
		}
	}
	for token, c := range works {
		switch n := runs[token]; {
		case n > 1:
			l.fault("%s ran %d times", token, n)
		case c == claimDone && n == 0:
			l.fault("%s was answered and never ran", token)
		case c == claimUnsent && n > 0:
			l.fault("%s ran, and the agent was told that it was not sent", token)
		}
	}
}

// has reports whether some request of an upstream ended in a way that begins so.
func (l *ledger) has(upstream, label string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for outcome := range l.outcomes {
		if strings.HasPrefix(outcome, upstream+": "+label) {
			return true
		}
	}
	return false
}

// report logs what there was, and fails the test if there was a fault.
func (l *ledger) report(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var table strings.Builder
	total := 0
	for _, label := range slices.Sorted(maps.Keys(l.outcomes)) {
		fmt.Fprintf(&table, "%7d %s\n", l.outcomes[label], label)
		total += l.outcomes[label]
	}
	t.Logf("%d requests, %d calls with a side effect; %d took longer than %v:\n%s", total, len(l.works), l.late, chaosPromise, &table)
	for _, upstream := range slices.Sorted(maps.Keys(l.slowest)) {
		t.Logf("%s: the slowest took %v", upstream, l.slowest[upstream].Round(time.Millisecond))
	}
	if len(l.steady) > 0 {
		slices.Sort(l.steady)
		at := func(share float64) time.Duration {
			return l.steady[int(share*float64(len(l.steady)-1))].Round(10 * time.Microsecond)
		}
		t.Logf("the upstream that nobody harmed: %d calls, p50 %v, p99 %v", len(l.steady), at(0.5), at(0.99))
	}
	for _, fault := range l.faults {
		t.Error(fault)
	}
	if l.found > len(l.faults) {
		t.Errorf("and %d faults more", l.found-len(l.faults))
	}
}

// TestChaosLedger holds the checker to find what it is there for.
func TestChaosLedger(t *testing.T) {
	t.Parallel()
	sound := func() (*ledger, map[string]string) {
		l := newLedger()
		for token, c := range map[string]claim{"a/1": claimDone, "a/2": claimNone, "a/3": claimNone, "a/4": claimUnsent, "b/1": claimDone} {
			l.begin(token)
			l.claim(token, c)
		}
		return l, map[string]string{"a": "a/1\na/2\n", "b": "b/1\n"}
	}
	l, journals := sound()
	if l.judge(journals); l.found != 0 {
		t.Errorf("faults where there are none: %q", l.faults)
	}
	for want, a := range map[string]string{
		"a/2 ran 2 times":                           "a/1\na/2\na/2\n",
		"a/1 was answered and never ran":            "a/2\n",
		"a/4 ran, and the agent was told":           "a/1\na/4\n",
		`a did "a/9", which no agent had asked for`: "a/1\na/9\n",
		"a was asked: something":                    "a/1\n! something\n",
		`a did "b/1", which was meant for another`:  "a/1\nb/1\n",
	} {
		l, journals := sound()
		journals["a"] = a
		l.judge(journals)
		if !slices.ContainsFunc(l.faults, func(fault string) bool { return strings.HasPrefix(fault, want) }) {
			t.Errorf("%q: the faults are %q", want, l.faults)
		}
	}
}
