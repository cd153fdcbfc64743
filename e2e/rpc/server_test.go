// The JSON-RPC server of this package's tests, and requests to it.

package rpc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
)

// rpcServer is a JSON-RPC 2.0 server without MCP, in the test's own process. It takes one request or an array of them, and
// notes what came in which array and how often each key was worked on.
//
// `get` and `put` answer the key, the token of the request and a number of their own; `fail` answers an error.
type rpcServer struct {
	url string

	mu    sync.Mutex // guards the following
	spoil spoil
	posts []rpcPost
	spent bool           // an array has been spoilt
	ran   map[string]int // by key
	notes map[string]int // by key: those without an id
	n     int
	hung  chan struct{} // closed when the server ends
}

// spoil is what becomes of an array. Its zero value is a sound server.
type spoil struct {
	before bool                                          // nothing is worked on
	answer func(w http.ResponseWriter, answers []string) // sends something else, given the answers to each call
	hang   bool
	once   bool // to the first array of each method only
}

// rpcPost is one POST that the server got.
type rpcPost struct {
	array  bool
	token  string
	calls  []rpcCall
	header http.Header
}

type rpcCall struct {
	ID     json.RawMessage
	Method string
	Params struct{ Key, Whose string }
}

// rpcValue is the result of get and put.
type rpcValue struct {
	Key, Whose string
	Run        int // which answer of the server's it is
}

func startRPC(t *testing.T) *rpcServer {
	t.Helper()
	s := &rpcServer{ran: map[string]int{}, notes: map[string]int{}, hung: make(chan struct{})}
	srv := httptest.NewServer(s)
	t.Cleanup(func() {
		close(s.hung)
		srv.CloseClientConnections()
		srv.Close()
	})
	s.url = srv.URL + "/"
	return s
}

func (s *rpcServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p := rpcPost{token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), header: r.Header}
	if p.array = body[0] == '['; p.array {
		err = json.Unmarshal(body, &p.calls)
	} else {
		p.calls = make([]rpcCall, 1)
		err = json.Unmarshal(body, &p.calls[0])
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answers, spoil := s.work(p)
	switch {
	case spoil.hang:
		select {
		case <-r.Context().Done():
		case <-s.hung:
		}
	case spoil.answer != nil:
		spoil.answer(w, answers)
	case len(answers) == 0:
		w.WriteHeader(http.StatusAccepted)
	case p.array:
		sendJSON(w, "["+strings.Join(answers, ",")+"]")
	default:
		sendJSON(w, answers[0])
	}
}

func sendJSON(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body) // the daemon may have gone
}

// work notes a POST, works on its calls and returns the answers.
func (s *rpcServer) work(p rpcPost) (answers []string, as spoil) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts = append(s.posts, p)
	if p.array && (!s.spoil.once || !s.spent) {
		as, s.spent = s.spoil, true
		if as.before {
			return nil, as
		}
	}
	for _, c := range p.calls {
		if c.ID == nil {
			s.notes[c.Params.Key]++
			continue
		}
		s.n++
		s.ran[c.Params.Key]++
		if c.Method == "fail" {
			answers = append(answers, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":7,"message":%q}}`, c.ID, c.Params.Key))
			continue
		}
		answers = append(answers, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"key":%q,"whose":%q,"run":%d}}`, c.ID, c.Params.Key, p.token, s.n))
	}
	return answers, as
}

// seen returns the POSTs since the last time it was asked.
func (s *rpcServer) seen() (arrays, singles []rpcPost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.posts {
		if p.array {
			arrays = append(arrays, p)
		} else {
			singles = append(singles, p)
		}
	}
	s.posts = nil
	return arrays, singles
}

// runs is how often a key was worked on.
func (s *rpcServer) runs(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran[key]
}

// noted is how many notifications with a key have come.
func (s *rpcServer) noted(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes[key]
}

// rpcConf is a daemon before one JSON-RPC server. Keys are of the upstream, in flow style, without braces.
func rpcConf(s *rpcServer, keys string) harness.Config {
	return harness.OneUpstream(s.url, "protocol: jsonrpc, "+keys)
}

// rpcRequest is a request; the id is JSON, or "" for none.
func rpcRequest(id, method, key string) string {
	if id != "" {
		id = `"id":` + id + `,`
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0",%s"method":%q,"params":{"key":%q}}`, id, method, key)
}

// postArray posts an array, or one message, to /rpc/s.
func postArray(a *harness.Agent, body string, fields ...string) harness.Reply {
	a.T.Helper()
	return a.Must(http.MethodPost, "/rpc/s", body, fields...)
}

// valueOf is a result of get or put; its zero value where there is none.
func valueOf(a harness.RPCAnswer) (v rpcValue) {
	_ = json.Unmarshal(a.Result, &v) // an error has none
	return v
}

// sizes are how many calls are in each POST.
func sizes(posts []rpcPost) []int {
	all := make([]int, len(posts))
	for i, p := range posts {
		all[i] = len(p.calls)
	}
	return all
}

// callAtOnce posts one request for each key, all at once, each by itself. What each got is under its key.
func callAtOnce(t *testing.T, a *harness.Agent, upstream, method string, keys []string, fields ...string) map[string]harness.RPCAnswer {
	t.Helper()
	var (
		mu    sync.Mutex
		got   = map[string]harness.RPCAnswer{}
		calls sync.WaitGroup
	)
	for i, key := range keys {
		calls.Go(func() {
			id := fmt.Sprint(i)
			r, err := a.Send(http.MethodPost, "/rpc/"+upstream, rpcRequest(id, method, key), fields...)
			var answer harness.RPCAnswer
			if err == nil {
				err = json.Unmarshal([]byte(r.Body), &answer)
			}
			if err != nil || r.Status != http.StatusOK || string(answer.ID) != id {
				t.Errorf("%s %s: %d, %v: %s", method, key, r.Status, err, r.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			got[key] = answer
		})
	}
	calls.Wait()
	return got
}

// keysOf are n keys, none twice.
func keysOf(name string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return keys
}
