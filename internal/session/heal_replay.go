package session

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/mcp"
)

// ofOneCall reports whether a header field belongs to one call and not to the agent.
func ofOneCall(canonical string) bool {
	switch canonical {
	case sessionHeader, "Last-Event-Id", "Mcp-Method", "Mcp-Name", "Idempotency-Key", "X-Idempotency-Key", "Accept",
		"Content-Type", "Content-Length":
		return true
	}
	return strings.HasPrefix(canonical, "Mcp-Param-")
}

// newID returns an id for a request of the daemon's own. Some servers take integers only; all of JavaScript's are below
// 2^53, and agents count from the other end.
func newID() string { return strconv.FormatInt(1<<52+rand.Int64N(1<<52), 10) }

// replayers is how many subscriptions are asked for at once.
const replayers = 8

// replay says the log level and the subscriptions again. What the server refuses, it refuses: a resource may be gone. Only
// where it gives no answer, or does not know the session that it has just opened, is there no healing.
func (p *patient) replay() result {
	p.e.mu.Lock()
	level, uris := p.e.level, slices.Clone(p.e.uris)
	p.e.mu.Unlock()
	if level != "" {
		if res := p.ask(mcp.MethodLoggingSetLevel, `{"level":`+level+`}`); res != resultHealed {
			return res
		}
	}
	return p.subscribe(uris)
}

// subscribe subscribes to all of the resources, some at once, until one fails.
func (p *patient) subscribe(uris [][]byte) result {
	var wg sync.WaitGroup
	var failed atomic.Pointer[result]
	next := make(chan []byte)
	for range min(replayers, len(uris)) {
		wg.Go(func() {
			for uri := range next {
				if res := p.ask(mcp.MethodResourcesSubscribe, `{"uri":`+string(uri)+`}`); res != resultHealed {
					failed.Store(&res)
				}
			}
		})
	}
	for _, uri := range uris {
		if failed.Load() != nil {
			break
		}
		next <- uri
	}
	close(next)
	wg.Wait()
	if res := failed.Load(); res != nil {
		return *res
	}
	return resultHealed
}

// ask sends one request under an id of the daemon's own, and wants an answer, whichever.
func (p *patient) ask(m mcp.Method, params string) result {
	body := `{"jsonrpc":"2.0","id":` + newID() + `,"method":"` + m.String() + `","params":` + params + `}`
	c := p.call(mcp.LaneRequest, []byte(body))
	res, err := p.stage.opts.Next.Call(p.ctx, c)
	if err != nil {
		return p.failed(err)
	}
	defer p.stage.discard(res)
	switch {
	case mcp.LossOf(c, res) == mcp.LossSure:
		return resultRefused
	case isBusy(res.Status):
		return p.failed(errBusy)
	case !isGood(res.Status):
		return resultHealed
	}
	if _, _, err := answerOf(res); err != nil {
		return p.failed(err)
	}
	return resultHealed
}
