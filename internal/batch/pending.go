package batch

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fluentd-perf/internal/mcp"
)

// pendingCalls are the legacy calls that wait for flights, by what nameOf says: their agents may cancel them by
// `notifications/cancelled`, and of a follower's id the server knows nothing (2025-11-25, basic/utilities/cancellation).
// Where there are no sessions two agents of one credential may have calls under one name.
type pendingCalls struct {
	mu sync.Mutex
	by map[string][]*pendingCall
}

// pendingCall is one of them. Its waiters and over are guarded by pendingCalls.mu.
type pendingCall struct {
	all      *pendingCalls
	name     string
	waiters  []waiter
	over     bool          // it has its answer, or has been released
	released chan struct{} // closed when its agent has cancelled it
}

// errCancelled is why a flight ends whose last waiter was cancelled.
var errCancelled = errors.New("the agent cancelled the request")

// nameOf returns under what a legacy call can be cancelled: its session, or else its partition, and its id; "" where it
// cannot be.
func nameOf(c *mcp.Call, id []byte, partition func(*mcp.Call) [32]byte) string {
	if c.Era != mcp.EraLegacy || len(id) == 0 || id[0] == 'n' {
		return ""
	}
	whose := ""
	switch session := c.Header["Mcp-Session-Id"]; {
	case len(session) > 1:
		return ""
	case len(session) == 1 && session[0] != "":
		whose = session[0]
	case partition == nil:
		return ""
	default:
		p := partition(c)
		whose = "\n" + string(p[:])
	}
	if text, ok := mcp.Text(id); ok {
		return whose + "\n\"" + text
	}
	return whose + "\n" + number(string(id))
}

// number returns one spelling for all numbers of the same value, as mcp.SameID tells them: 1, 1.0 and 10e-1 are one id
// (JSON-RPC 2.0, section 4). What is no number is the same byte for byte, as a power of more than 17 digits is.
func number(id string) string {
	text, power, _ := strings.Cut(strings.ToLower(id), "e")
	exp, err := int64(0), error(nil)
	if power != "" {
		exp, err = strconv.ParseInt(power, 10, 64)
	}
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if digits = whole + fraction; err != nil || strings.Trim(digits, "0123456789") != "" || exp < -maxPower || exp > maxPower {
		return "=" + id
	}
	exp -= int64(len(fraction))
	short := strings.TrimRight(digits, "0")
	exp += int64(len(digits) - len(short))
	if short = strings.TrimLeft(short, "0"); short == "" {
		return "0"
	}
	if negative {
		short = "-" + short
	}
	if exp == 0 {
		return short
	}
	return short + "e" + strconv.FormatInt(exp, 10)
}

// maxPower is the largest power of ten in a number that is compared by its value, as for mcp.SameID.
const maxPower int64 = 99_999_999_999_999_999

// begin notes a call that waits. It is nil for one that nobody can cancel.
func (p *pendingCalls) begin(name string, w waiter) *pendingCall {
	if name == "" {
		return nil
	}
	own := &pendingCall{all: p, name: name, waiters: []waiter{w}, released: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by[name] = append(p.by[name], own)
	return own
}

// also notes another flight for which the call waits, and reports whether it still does.
func (p *pendingCall) also(w waiter) bool {
	if p == nil {
		return true
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if !p.over {
		p.waiters = append(p.waiters, w)
	}
	return !p.over
}

// end takes the call off, and reports whether it still waited.
func (p *pendingCall) end() bool {
	if p == nil {
		return true
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	return p.endLocked()
}

func (p *pendingCall) endLocked() bool {
	if p.over {
		return false
	}
	p.over = true
	others := slices.DeleteFunc(p.all.by[p.name], func(c *pendingCall) bool { return c == p })
	if p.all.by[p.name] = others; len(others) == 0 {
		delete(p.all.by, p.name)
	}
	return true
}

// gone is closed when the call has been cancelled; nil for one that cannot be.
func (p *pendingCall) gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.released
}

// cancelled takes a cancellation to the calls of the name. It returns the flights that one of them leads, whose followers
// are to go by themselves; or else, if the daemon may answer the cancellation itself and the name is one follower's, what
// that waits for, which is released.
func (p *pendingCalls) cancelled(name string, answers bool) (led []*flight, released []waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.by[name]
	for _, c := range calls {
		for _, w := range c.waiters {
			if w.leads {
				led = append(led, w.f)
			}
		}
	}
	if len(led) > 0 || len(calls) != 1 || !answers { // of two followers nobody knows which one is meant
		return led, nil
	}
	c := calls[0]
	c.endLocked()
	close(c.released)
	return nil, c.waiters
}

// isCancel reports whether a call is the cancellation of a legacy request.
func isCancel(c *mcp.Call) bool {
	return c.Lane == mcp.LaneNotification && c.Method() == mcp.MethodCancelled && c.Message.Kind == mcp.KindNotification
}

// takenApart reports whether the daemon may answer a cancellation itself, or put another id into it: it reads in one way.
func takenApart(c *mcp.Call) bool { return !c.Message.Ambiguous && !c.Message.Loose }

// accepted is what a request gets that its agent has cancelled, and a notification that had nowhere to go.
func accepted() *mcp.Result { return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{}} }
