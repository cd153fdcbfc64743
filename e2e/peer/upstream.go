package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/mcptest"
)

// peerTimeout bounds every wait of a peer.
const peerTimeout = 60 * time.Second

// owner is the TB of a server that belongs to no test.
type owner struct{ cleanups []func() }

func (*owner) Helper() {}

// Fatalf ends the process: nobody else could tell the test.
func (*owner) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func (o *owner) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func (o *owner) close() {
	for _, f := range o.cleanups {
		f()
	}
}

// upstream answers blobs, and holds GET streams to which it sends one event each when told to.
func upstream() error {
	var own owner
	defer own.close()
	u := &listeners{gate: mcptest.NewGate()}
	s := mcptest.NewServer(&own, u.answer)
	if err := say(map[string]string{"url": s.URL()}); err != nil {
		return err
	}
	return obey(func(command string) error {
		if command == "send" {
			u.gate.Open()
			return say(map[string]int{"streams": u.count()})
		}
		text, ok := strings.CutPrefix(command, "open ")
		n, err := strconv.Atoi(text)
		if !ok || err != nil {
			return fmt.Errorf("no such command: %q", command)
		}
		return say(awaitOpen(s, n))
	})
}

// openReport says how many connections are open, and how long it took to come down to that.
type openReport struct {
	Open int   `json:"open"`
	Ms   int64 `json:"ms"`
}

// awaitOpen waits until no more than n connections are open.
func awaitOpen(s *mcptest.Server, n int) openReport {
	begun := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		open, _ := s.Connections()
		took := time.Since(begun)
		if open <= n || took > peerTimeout {
			return openReport{open, took.Milliseconds()}
		}
		<-tick.C
	}
}

// listeners are the GET streams that are held.
type listeners struct {
	gate *mcptest.Gate
	mu   sync.Mutex
	n    int
}

func (u *listeners) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}

func (u *listeners) add(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n += n
}

func (u *listeners) answer(x *mcptest.Exchange) {
	switch x.Verb {
	case http.MethodGet:
		u.hold(x)
	case http.MethodPost:
		answerBlob(x)
	default:
		mcptest.Minimal(x)
	}
}

// hold sends the stream's own event when the gate opens. It names the session, so that a crossed one is found.
func (u *listeners) hold(x *mcptest.Exchange) {
	u.add(1)
	defer u.add(-1)
	st := x.Stream()
	if x.Wait(u.gate.Opened()) {
		st.Event(eventFor(x.Get("Mcp-Session-Id")))
	}
	x.Hang()
}

func eventFor(session string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%q}}`, session)
}

func answerBlob(x *mcptest.Exchange) {
	var call struct {
		Params struct {
			Name      string `json:"name"`
			Arguments blob   `json:"arguments"`
		} `json:"params"`
	}
	if err := json.Unmarshal(x.Body, &call); err != nil || call.Params.Name != "blob" {
		mcptest.Minimal(x)
		return
	}
	b := call.Params.Arguments
	if b.N < 0 || b.Size < 0 || b.Size > maxBlob {
		x.Say(http.StatusBadRequest, "text/plain", "a blob out of range")
		return
	}
	answer := b.answer(x.ID())
	if !b.SSE {
		x.JSON(answer)
		return
	}
	st := x.Stream()
	st.Event(b.progress())
	st.Event(answer)
	st.End()
}
