package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// checker is a server that knows which of its sessions live, and judges whoever opens one.
type checker struct {
	*fakeServer
	t      *testing.T
	r      *rand.Rand
	opened map[string]int    // initializes by credential
	last   map[string]string // the id of the latest session of a credential
	errors int               // given in all
}

func newChecker(t *testing.T, seed uint64) *checker {
	k := &checker{fakeServer: newFakeServer(), t: t, r: rand.New(rand.NewPCG(seed, 0)), opened: map[string]int{}, last: map[string]string{}}
	k.after = func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
		if c.Method() == mcp.MethodInitialize {
			token := c.Header.Get("Authorization")
			if k.sessions[k.last[token]] != nil {
				t.Errorf("the living session %s is opened again", k.last[token])
			}
			k.opened[token]++
			k.last[token] = res.Header.Get("Mcp-Session-Id")
		}
		return res, nil
	}
	return k
}

// words that servers say, the exact ones of the SDKs first.
var (
	exactWords = []string{"Session not found", "Bad Request: No valid session ID provided", "Bad Request: Server not initialized", "Invalid session ID"}
	nearWords  = []string{"No session s1 here", "Unknown Mcp-Session-Id", "session expired", "Too many sessions", "server has not been initialized",
		"call initialize first", "session_id is required", "Unauthorized: Session is over", "the tool's browser session is gone"}
	farWords = []string{"no", "Internal error", "Could not initialize the database", "Bad gateway", "Unsupported protocol version", ""}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// framed gives an error in one of the shapes that carry one.
func (k *checker) framed(status int, body string) *mcp.Result {
	k.errors++
	switch k.r.IntN(4) {
	case 0:
		return oneEvent(status, body)
	case 1:
		return whole(status, pick(k.r, []string{"", "text/plain", "text/html", "application/problem+json"}), body)
	}
	return jsonBody(status, body)
}

// living is an error of a server that has the session: anything but what means by itself that it has not.
func (k *checker) living(c *mcp.Call) *mcp.Result {
	request := c.Message.Kind == mcp.KindRequest
	exact := k.r.IntN(4) == 0
	own := request && k.r.IntN(2) == 0
	status := pick(k.r, []int{400, 400, 401, 403, 404, 404, 405, 409, 422, 429, 500, 502, 503, 503})
	if status == 404 && !own || (status == 400 || status == 404) && exact && !(own && c.Method() == mcp.MethodToolsCall) {
		status = 503
	}
	words := pick(k.r, slices.Concat(nearWords, farWords))
	if exact {
		words = pick(k.r, exactWords)
	}
	id := pick(k.r, []string{"null", `"server-error"`})
	if own {
		id = string(c.ID())
	}
	if !own && k.r.IntN(3) == 0 {
		return k.framed(status, words)
	}
	return k.framed(status, rpcError(id, pick(k.r, []int{-32000, -32001, -32002, -32600, -32601, -32602, -32603}), words))
}

// pong is what a living session says to a ping.
func (k *checker) pong(c *mcp.Call) (*mcp.Result, error) {
	switch k.r.IntN(8) {
	case 0:
		return nil, errBroke
	case 1:
		return k.framed(pick(k.r, []int{200, 400, 404}), rpcError(string(c.ID()), -32601, "sessions know no ping")), nil
	case 2:
		return text(pick(k.r, []int{429, 500, 502}), "session"), nil
	case 3:
		k.mu.Unlock()
		defer k.mu.Lock()
		wait(3 * time.Second)
		return nil, errBroke
	}
	return nil, nil
}

// act is one call of an agent's, with what came of it.
func (k *checker) act(a *agent) (*mcp.Call, *mcp.Result, error) {
	var c *mcp.Call
	switch k.r.IntN(7) {
	case 0, 1:
		c = a.call(mcp.LaneRequest, a.request("tools/list", `{}`))
	case 2, 3:
		c = a.call(mcp.LaneRequest, a.request("tools/call", `{"name":"t"}`))
	case 4:
		c = a.call(mcp.LaneRequest, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	case 5:
		c = a.call(mcp.LaneRequest, `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`)
	case 6:
		c = a.call(mcp.LaneRequest, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":null}`)
	}
	res, err := a.stage.Call(k.t.Context(), c)
	return c, res, err
}

// passes checks an error of a living session.
func (k *checker) passes(a *agent) {
	var said *mcp.Result
	k.before = func(c *mcp.Call) (*mcp.Result, error) {
		if c.Method() == mcp.MethodPing {
			return k.pong(c)
		}
		given := k.living(c)
		kept := *given
		said = &kept
		return given, nil
	}
	_, res, err := k.act(a)
	k.before = nil
	if err != nil || res.Status != said.Status || string(res.Body) != string(said.Body) {
		k.t.Errorf("%d %s came as %+v, %v", said.Status, said.Body, res, err)
	}
}

// heals checks a session that is lost.
func (k *checker) heals(a *agent, shape string) {
	token := a.token
	before := k.opened[token]
	k.lose(token, shapes[shape].says)
	k.errors++
	c, res, err := k.act(a)
	var f *mcp.Failure
	noR := c.Lane == mcp.LaneOpaque || c.Method() == mcp.MethodToolsCall
	switch {
	case noR && (!errors.As(err, &f) || f.Code != mcp.CodeSessionRestart), !noR && (err != nil || !good(res)):
		k.t.Errorf("%s: %s got %+v, %v", shape, c.Body, res, err)
	case k.opened[token] != before+1 || k.sessions[k.last[token]] == nil:
		k.t.Errorf("%s: %d sessions were opened", shape, k.opened[token]-before)
	case !noR:
		a.restarted()
	}
	a.tool()
}

func good(res *mcp.Result) bool { return res.Status >= 200 && res.Status < 300 }

// lose makes the server forget a credential's session.
func (k *checker) lose(token string, l lossOf) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.sessions, k.last[token])
	k.unknown = func(c *mcp.Call) *mcp.Result { return l(c) }
}

// signsIn checks that a 401 that asks for signing in comes as it was: to a call in a living session, in a lost one, and to the
// healing of one.
func (k *checker) signsIn(a *agent) {
	res401 := k.framed(401, rpcError("null", -32001, pick(k.r, slices.Concat(exactWords, nearWords, farWords))))
	res401.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	lost, onlyHealing := k.r.IntN(2) == 0, false
	if lost {
		onlyHealing = k.r.IntN(2) == 0
		k.lose(a.token, shapes["TypeScript"].says)
	}
	k.before = func(c *mcp.Call) (*mcp.Result, error) {
		if onlyHealing && c.Method() != mcp.MethodInitialize {
			return nil, nil
		}
		given := *res401
		given.Header = given.Header.Clone()
		return &given, nil
	}
	before := k.opened[a.token]
	_, res, err := k.act(a)
	k.before = nil
	if err != nil || res.Status != 401 || string(res.Body) != string(res401.Body) || res.Header.Get("WWW-Authenticate") == "" || k.opened[a.token] != before {
		k.t.Errorf("lost %v, in the healing alone %v: got %+v, %v", lost, onlyHealing, res, err)
	}
	if lost {
		k.heals(a, "Go")
	}
}

// TestMixedErrors is the checker: ten thousand errors in all shapes, of servers that have the session and of such that have
// not. No living session is opened again, every lost one is, and what asks for signing in reaches the agent as it came.
func TestMixedErrors(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var names []string
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	synctest.Test(t, func(t *testing.T) {
		k := newChecker(t, seed)
		first := newAgent(t, k.fakeServer, session.HealReads)
		var agents []*agent
		for i := range 20 {
			a := *first
			a.token = fmt.Sprintf("agent %d", i)
			a.begin()
			agents = append(agents, &a)
		}
		healed := 0
		for !t.Failed() && k.errors < 10_000 {
			wait(21 * time.Second) // three healings in a minute, and no more
			a := pick(k.r, agents)
			switch k.r.IntN(8) {
			case 0, 1, 2:
				k.heals(a, pick(k.r, names))
				healed++
			case 3:
				k.signsIn(a)
				wait(41 * time.Second)
			default:
				k.passes(a)
			}
			k.calls, k.ran = nil, map[string]int{}
		}
		t.Logf("%d errors, %d sessions lost", k.errors, healed)
		if secret := strings.Contains(first.log.String(), "agent 1"); secret {
			t.Error("the log tells credentials")
		}
	})
}

// TestTooManyLosses holds the bound of the checker's server: what is lost a fourth time within a minute is passed on, in
// whatever shape it was said, as what clients understand.
func TestTooManyLosses(t *testing.T) {
	for name, shape := range shapes {
		synctest.Test(t, func(t *testing.T) {
			k := newChecker(t, 1)
			a := newAgent(t, k.fakeServer, session.HealReads)
			a.begin()
			for range 3 {
				k.heals(a, name)
			}
			k.lose(a.token, shape.says)
			a.wantStatus(404, a.request("tools/list", `{}`))
			wait(time.Minute)
			a.list()
			if k.opened[a.token] != 5 {
				t.Errorf("%s: opened %d times", name, k.opened[a.token])
			}
		})
	}
}
