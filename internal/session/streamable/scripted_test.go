package streamable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// scripted are servers within the test's process.
type scripted struct {
	version string // of the protocol
	name    string // "": of the scripted server
	slow    time.Duration
	unasked atomic.Bool // they end before they are asked anything

	mu    sync.Mutex
	all   []*mcptest.Stdio
	lines []string // that came, of all

	called    map[string]string // text by id
	cancelled map[string]bool   // by text
}

func (x *scripted) start(context.Context) (stdio.Process, func(), error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number := len(x.all) + 1
	s := mcptest.NewStdio(func(s *mcptest.Stdio) { x.run(s, number) })
	x.all = append(x.all, s)
	return s, nil, nil
}

// last is the process that was started last.
func (x *scripted) last() *mcptest.Stdio {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[len(x.all)-1]
}

func (x *scripted) started() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

// seen returns the methods and ids of what came, since the last call of it.
func (x *scripted) seen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for _, line := range x.lines {
		var m struct {
			Method string
			Error  json.RawMessage
			Result json.RawMessage
		}
		_ = json.Unmarshal([]byte(line), &m) // Next has read it
		names = append(names, m.Method+string(m.Error)+string(m.Result))
	}
	x.lines = nil
	return strings.Join(names, " ")
}

// tokens returns the progress tokens of the calls that came.
func (x *scripted) tokens() (all []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, line := range x.lines {
		var m struct {
			Params struct {
				Meta struct{ ProgressToken json.RawMessage } `json:"_meta"`
			}
		}
		if json.Unmarshal([]byte(line), &m) == nil && m.Params.Meta.ProgressToken != nil {
			all = append(all, string(m.Params.Meta.ProgressToken))
		}
	}
	return all
}

// run is one process. Each has a counter, and says its number with everything.
func (x *scripted) run(s *mcptest.Stdio, number int) {
	var count, asked atomic.Int64
	var mu sync.Mutex
	answers := map[string]chan mcptest.StdioRequest{}
	var calls sync.WaitGroup
	var mute string // the text of a call of "mute", after which nothing is answered; "log": a ping gets a log message; "wakes": its answer after 3 s
	defer calls.Wait()
	for {
		r, ok := s.Next()
		if !ok {
			mu.Lock()
			for _, c := range answers {
				close(c)
			}
			mu.Unlock()
			return
		}
		text := fmt.Sprint(r.Params.Arguments["text"])
		x.note(r, text)
		ask := func(method string) (mcptest.StdioRequest, bool) {
			id := fmt.Sprint(asked.Add(1))
			c := make(chan mcptest.StdioRequest, 1)
			mu.Lock()
			answers[id] = c
			mu.Unlock()
			s.Write(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"from":%d,"text":%q}}`+"\n", id, method, number, text)
			answer, ok := <-c
			return answer, ok
		}
		result := func(extra string) {
			s.Result(r, fmt.Sprintf(`{"from":%d,"count":%d,"text":%q%s}`, number, count.Add(1), text, extra))
		}
		switch {
		case mute == "log" && r.Method == "ping":
			s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"busy"}}` + "\n")
		case mute == "wakes" && r.Method == "ping":
			mute = ""
			calls.Go(func() {
				time.Sleep(3 * time.Second)
				s.Result(r, "{}")
			})
		case mute != "":
		case x.unasked.Load() && r.Method == "notifications/initialized":
			s.LastLines = []string{"no license"}
			calls.Go(func() {
				time.Sleep(time.Millisecond) // that one is accepted
				s.End("exit status 7")
			})
		case r.Params.Name == "mute":
			mute = text
		case r.Method == "initialize":
			time.Sleep(x.slow)
			line := `{"protocolVersion":"` + x.version + `","capabilities":{"logging":{}},"serverInfo":{"name":"scripted` + x.name + `","version":"1"}}`
			s.Result(r, line)
		case r.Method == "server/discover":
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`+"\n", r.ID)
		case r.Method == "" && r.ID != nil:
			mu.Lock()
			if c := answers[string(r.ID)]; c != nil {
				c <- r
				delete(answers, string(r.ID))
			}
			mu.Unlock()
		case r.ID == nil:
		case r.Method != "tools/call":
			result("")
		default:
			calls.Go(func() {
				switch r.Params.Name {
				case "progress":
					for i := range 3 {
						s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"from":%d,"text":%q}}`+"\n", r.Params.Meta.ProgressToken, i, number, text)
					}
				case "update":
					uri, _, _ := strings.Cut(text, "/")
					s.Write(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q,"from":%d,"text":%q}}`+"\n", uri, number, text)
				case "change":
					s.Write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` + "\n")
				case "log":
					s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","from":%d,"text":%q}}`+"\n", number, text)
				case "ask":
					answer, _ := ask("roots/list")
					result(`,"answer":` + string(answer.Result) + string(answer.Error))
					return
				case "hang":
					return
				case "die":
					s.End("signal: killed")
					return
				case "slow":
					time.Sleep(18 * time.Second)
				}
				result("")
			})
		}
	}
}

// has reports whether a call with that text has come.
func (x *scripted) has(text string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, called := range x.called {
		if called == text {
			return true
		}
	}
	return false
}

// wasCancelled reports whether a call with that text was cancelled.
func (x *scripted) wasCancelled(text string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cancelled[text]
}

// note notes what came: the texts of calls by their ids, and which of them was cancelled.
func (x *scripted) note(r mcptest.StdioRequest, text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.called == nil {
		x.called, x.cancelled = map[string]string{}, map[string]bool{}
	}
	switch x.lines = append(x.lines, r.Line); r.Method {
	case "tools/call":
		x.called[string(r.ID)] = text
	case "notifications/cancelled":
		x.cancelled[x.called[string(r.Params.RequestID)]] = true
	}
}
