// The server of TestOverload: so many slots, so long a call.

package dispatch

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slotServer answers a call after a time of its own, and counts how many are with it.
type slotServer struct {
	url   string
	slots int64
	takes time.Duration

	inside, most atomic.Int64

	mu     sync.Mutex     // guards the following
	held   time.Duration  // of all calls together
	served map[string]int // by agent
	first  time.Time      // when the first call came
	last   time.Time      // when the last one was answered
}

func startSlots(t *testing.T, slots int, takes time.Duration) *slotServer {
	t.Helper()
	s := &slotServer{slots: int64(slots), takes: takes, served: map[string]int{}}
	srv := httptest.NewServer(s)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	s.url = srv.URL + "/mcp"
	return s
}

func (s *slotServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived, inside := time.Now(), s.inside.Add(1)
	for most := s.most.Load(); inside > most && !s.most.CompareAndSwap(most, inside); most = s.most.Load() {
	}
	<-time.After(s.takes)
	s.note(r.Header.Get("Mcp-Session-Id"), arrived)
	s.inside.Add(-1) // before the daemon can know of the answer
	body := `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = strings.NewReader(body).WriteTo(w) // nobody leaves
}

func (s *slotServer) note(agent string, arrived time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = arrived
	}
	s.last = time.Now()
	s.held += s.last.Sub(arrived)
	s.served[agent]++
}

// work is what the server did so far.
type work struct {
	calls int
	busy  float64       // the share of its slots' time in which they were taken
	wall  time.Duration // from the first call to the last answer
	by    map[string]int
}

func (s *slotServer) work() work {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := work{wall: s.last.Sub(s.first), by: map[string]int{}}
	for agent, n := range s.served {
		w.calls += n
		w.by[agent] = n
	}
	w.busy = s.held.Seconds() / (float64(s.slots) * w.wall.Seconds())
	return w
}
