// The load of TestOverload: calls at a rate, answered or not.

package dispatch

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// rateLoad makes calls at a rate, whether those before have been answered or not: the next is due when it is due. It has some
// agents, which it is in turn, each a session; a connection has one call at a time, and there are as many as it takes.
type rateLoad struct {
	t        *testing.T
	addr     string
	requests [][]byte // one for each agent
	calls    chan int // an agent's number for each call that is due

	mu          sync.Mutex // guards the following
	connections int
	late        int // calls that were due, and for which there was no connection
	answers     []loadAnswer
	faults      []string
	wg          sync.WaitGroup
}

// loadAnswer is one call's end.
type loadAnswer struct {
	agent  int
	took   time.Duration
	code   int // of the error; 0 for a result
	after  int64
	reason string
}

// mostConnections is far more than can be with the server and in the queue.
const mostConnections = 3000

func newRateLoad(t *testing.T, d *harness.Daemon, agents int) *rateLoad {
	f := &rateLoad{t: t, addr: d.Addr, calls: make(chan int)}
	for i := range agents {
		f.requests = append(f.requests, rawCall(d.Addr, loadAgent(i)))
	}
	return f
}

func loadAgent(i int) string { return fmt.Sprintf("load-%d", i) }

// rawCall is a call as it goes over the wire, in a session.
func rawCall(addr, session string) []byte {
	body := harness.Request("1", "tools/call")
	return fmt.Appendf(nil, "POST /mcp/s HTTP/1.1\r\nHost: %s\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"+
		"MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\nContent-Length: %d\r\n\r\n%s", addr, session, len(body), body)
}

// run makes calls for a while and returns how many, when all are answered or have found no connection. ended is closed when
// the last one has been made.
func (f *rateLoad) run(rate int, length time.Duration, ended chan<- struct{}) (offered int) {
	begun := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		passed := min(time.Since(begun), length)
		for due := int(passed.Seconds() * float64(rate)); offered < due; offered++ {
			f.offer(offered % len(f.requests))
		}
		if passed == length {
			break
		}
		<-tick.C
	}
	close(ended)
	close(f.calls)
	f.wg.Wait()
	return offered
}

// offer has a connection make a call, a new one if none is free.
func (f *rateLoad) offer(agent int) {
	select {
	case f.calls <- agent:
		return
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.connections == mostConnections {
		f.late++
		return
	}
	f.connections++
	f.wg.Go(func() {
		if err := f.connection(agent); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.faults = append(f.faults, err.Error())
			f.connections--
		}
	})
}

// connection makes the agent's call and then such as are due, over one connection.
func (f *rateLoad) connection(agent int) error {
	conn, err := net.Dial("tcp4", f.addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	br := bufio.NewReader(conn)
	for more := true; more; agent, more = <-f.calls {
		if err := f.call(conn, br, agent); err != nil {
			return err
		}
	}
	return nil
}

func (f *rateLoad) call(conn net.Conn, br *bufio.Reader, agent int) error {
	begun := time.Now()
	if err := conn.SetDeadline(begun.Add(harness.MaxWait)); err != nil {
		return err
	}
	if _, err := conn.Write(f.requests[agent]); err != nil {
		return err
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	got := wholeReply(res)
	a := loadAnswer{agent: agent, took: time.Since(begun)}
	if !rpcOK(got) {
		var answer harness.RPCAnswer
		if err := json.Unmarshal([]byte(got.Body), &answer); err != nil || answer.Error == nil || answer.Error.Data == nil {
			return fmt.Errorf("%d %s", got.Status, got.Body)
		}
		a.code, a.after, a.reason = answer.Error.Code, answer.Error.Data.RetryAfterMs, answer.Error.Data.Reason
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = append(f.answers, a)
	return nil
}

// wholeReply reads an answer. What breaks off has no whole body, which whoever looks for something in it finds.
func wholeReply(res *http.Response) harness.Reply {
	defer func() { _ = res.Body.Close() }()
	var b strings.Builder
	_, _ = io.Copy(&b, res.Body)
	return harness.Reply{Status: res.StatusCode, Header: res.Header, Body: b.String()}
}
