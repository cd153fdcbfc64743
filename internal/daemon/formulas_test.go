package daemon

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"fluentd-perf/internal/mcptest"
)

// measured is what a client and a server saw of one run, by method.
type measured struct {
	t      *testing.T
	client *http.Client

	mu       sync.Mutex // guards the following
	requests float64
	failed   float64
	served   map[string][]time.Duration // at the server
	missed   map[string][]time.Duration // at the client: answers of the server's
	hits     []time.Duration
	faults   []string
}

func mean(all []time.Duration) float64 {
	sum := time.Duration(0)
	for _, d := range all {
		sum += d
	}
	return sum.Seconds() / float64(max(len(all), 1))
}

// script answers reads after 20 ms and calls after 50 ms; the tool `die` gets no answer.
func (m *measured) script(x *mcptest.Exchange) {
	begun := time.Now()
	switch x.Method() {
	case "resources/read":
		<-time.After(20 * time.Millisecond)
		m.serves(x.Method(), begun)
		x.Result(`{"contents":[],` + pipePrivate + `}`)
	case "tools/call":
		if bytes.Contains(x.Body, []byte(`"name":"die"`)) {
			x.Reset()
			return
		}
		<-time.After(50 * time.Millisecond)
		m.serves(x.Method(), begun)
		x.Result(`{"content":[],"resultType":"complete"}`)
	default:
		x.Say(http.StatusNotFound, "text/plain", "not here")
	}
}

// serves notes how long the server takes, before it answers: the client may look right after.
func (m *measured) serves(method string, begun time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served[method] = append(m.served[method], time.Since(begun))
}

// ask sends one request and notes how long it took, and who answered.
func (m *measured) ask(url, method, name string) {
	member := map[string]string{"resources/read": "uri", "tools/call": "name"}[method]
	c := pipeCall("Bearer x", "1", method, fmt.Sprintf(`%q:%q,`, member, name))
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(c.Body))
	if err != nil {
		m.t.Error(err)
		return
	}
	for _, f := range c.Header {
		req.Header.Add(f.Name, f.Value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Mcp-Protocol-Version", c.Version)
	req.Header.Set("Mcp-Name", name)
	begun := time.Now()
	res, err := m.client.Do(req)
	if err != nil {
		m.t.Error(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Error(err)
	}
	m.note(method, time.Since(begun), res.Header.Get("Cache-Status"), bytes.Contains(body, []byte(`"error"`)))
}

func (m *measured) note(method string, took time.Duration, status string, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	switch {
	case failed:
		m.failed++
	case strings.HasPrefix(status, "fluentd-perf; hit") || strings.HasSuffix(status, "collapsed"):
		m.hits = append(m.hits, took)
	default:
		m.missed[method] = append(m.missed[method], took)
	}
}

// near reports whether a and b differ by less than a part of b.
func near(a, b, part float64) bool { return math.Abs(a-b) <= part*math.Abs(b) }

// TestFormulas computes each formula of METRICS.md from scrapes of a daemon before and after a run, and holds it against what
// client and server measured themselves, whatever part of the answers are hits.
func TestFormulas(t *testing.T) {
	for _, again := range []int{0, 3, 25} { // hits for each miss
		t.Run(fmt.Sprint(again, " hits a miss"), func(t *testing.T) {
			var faults []string
			for range 5 { // what is wrong is so each time; a machine that does other things between two lines is not
				if faults = testFormulas(t, again); len(faults) == 0 {
					return
				}
			}
			t.Error(strings.Join(faults, "\n"))
		})
	}
}

// testFormulas is one run, and returns what is wrong.
func testFormulas(t *testing.T, again int) []string {
	t.Helper()
	m := &measured{t: t, client: &http.Client{Transport: &http.Transport{}}, served: map[string][]time.Duration{}, missed: map[string][]time.Duration{}}
	defer m.client.CloseIdleConnections()
	server, other := mcptest.NewServer(t, m.script), mcptest.NewServer(t, m.script)
	addr := serving(t, fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  s: {url: %q, cache: {listen: off}}\n  broken: {url: %q, breaker: off}\n", server.URL(), other.URL()))
	before, _ := scrapeOf(t, addr)
	m.run("http://"+addr, again)
	dead := "http://" + addr + "/mcp/broken"
	m.ask(dead, "tools/call", "die")
	m.ask(dead, "tools/call", "works")
	m.check(before, m.settled(addr), server)
	return m.faults
}

func (m *measured) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// run makes five resources be read, each again so many times and one by five at once, and calls a tool five times.
func (m *measured) run(base string, again int) {
	for i := range 5 {
		for range 1 + again {
			m.ask(base+"/mcp/s", "resources/read", fmt.Sprint("doc:///", i))
		}
		m.ask(base+"/mcp/s", "tools/call", "works")
	}
	if again == 0 {
		return
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { m.ask(base+"/mcp/s", "resources/read", "doc:///new") })
	}
	wg.Wait()
}

// settled scrapes until all requests are counted: that is after their answers.
func (m *measured) settled(addr string) series {
	for deadline := time.Now().Add(time.Minute); ; {
		s, _ := scrapeOf(m.t, addr)
		if s.sum("fluentd_perf_requests_total{") == m.requests {
			return s
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%v requests are counted, want %v", s.sum("fluentd_perf_requests_total{"), m.requests)
		}
	}
}

// check holds the formulas, and notes what is wrong.
func (m *measured) check(before, after series, server *mcptest.Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	const s, slack = `upstream="s"`, 0.010 // what the machine may take between a write and the next line
	reads, hits := len(m.missed["resources/read"])+len(m.hits), float64(len(m.hits))
	_, conns := server.Connections()
	served := len(m.served["resources/read"]) + 5
	checks := map[string]func(v vector){
		"What the daemon itself adds to a request that the server answers": func(v vector) {
			for kind, method := range map[string]string{"read": "resources/read", "call": "tools/call"} {
				got, ok := v[s+`,kind="`+kind+`"`]
				if most := mean(m.missed[method]) - mean(m.served[method]) + slack; !ok || got < 0 || got > most {
					m.fault("%s: the daemon adds %v s, client and server say at most %v", kind, got, most)
				}
			}
		},
		"How long a hit takes": func(v vector) {
			if got, ok := v[s]; ok != (hits > 0) || got < 0 || got > mean(m.hits)+slack {
				m.fault("a hit takes %v s, the client says %v", got, mean(m.hits))
			}
		},
		"Seconds that agents did not wait": func(v vector) {
			// The daemon's times of an answer lie between the server's and the client's, however long each has to wait for the machine.
			least := hits * (slices.Min(m.served["resources/read"]).Seconds() - mean(m.hits))
			most := hits * slices.Max(m.missed["resources/read"]).Seconds()
			if got, ok := v[s]; ok != (hits > 0) || got < least || got > most {
				m.fault("%v s were not waited, client and server say %v to %v", got, least, most)
			}
		},
		"Share of calls that the server was spared": func(v vector) {
			if got := v[s]; !near(got, hits/(hits+float64(served)), 1e-9) {
				m.fault("the server was spared %v of the calls, it had %d, and %v were hits", got, served, hits)
			}
		},
		"Share of requests to each server that got no answer of it": func(v vector) {
			if v[s] != 0 || v[`upstream="broken"`] != 0.5 || m.failed != 1 {
				m.fault("no answer got %v; the client saw %v failures", v, m.failed)
			}
		},
		"Share of what the cache could answer that it did answer": func(v vector) {
			if got := v[s]; !near(got, hits/float64(reads), 1e-9) {
				m.fault("the cache answered %v, the client says %v of %d", got, hits, reads)
			}
		},
		"Share of reused connections": func(v vector) {
			if got, want := v[`pool="s"`], 1-float64(conns)/float64(served); !near(got, want, 1e-9) {
				m.fault("%v are reused, the server says %v", got, want)
			}
		},
	}
	queries := formulas(m.t)
	for text, query := range queries {
		if check := checks[text]; check != nil {
			check(eval(before, after, query))
		} else {
			m.fault("nothing checks the query of %q", text)
		}
	}
	if len(queries) != len(checks) {
		m.fault("METRICS.md has the queries %q", slices.Sorted(maps.Keys(queries)))
	}
	if got := after.sum("fluentd_perf_saved_calls_total{", s); got != hits {
		m.fault("%v calls are counted as saved, %v were", got, hits)
	}
}

// TestSeriesOfTwelve: twelve upstreams that an agent has visited have no more series than Prometheus bears, and the text is
// one that promtool would take.
func TestSeriesOfTwelve(t *testing.T) {
	const visited = 12
	server := mcptest.NewServer(t, mcptest.Minimal)
	yaml := "listen: 127.0.0.1:0\nupstreams:\n"
	for i := range visited {
		yaml += fmt.Sprintf("  s%d: {url: %q}\n", i, server.URL())
	}
	addr := serving(t, yaml)
	m := &measured{t: t}
	for i := range visited {
		m.visit(fmt.Sprintf("http://%s/mcp/s%d", addr, i))
	}
	s := m.settled(addr)
	_, text := scrapeOf(t, addr)
	t.Logf("%d series, %d bytes", len(s), len(text))
	if len(s) >= 2500 {
		t.Errorf("%d series", len(s))
	}
	for _, tier := range []string{`tier="redis"`, `tier="database"`, `method="tools/list",upstream="s0",le`} {
		if n := s.sum(tier); n != 0 || strings.Contains(text, tier) {
			t.Errorf("there are series of %s, which is not there", tier)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// visit is what a legacy agent does at first.
func (m *measured) visit(url string) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":3,"method":"prompts/list"}`,
		`{"jsonrpc":"2.0","id":4,"method":"resources/list"}`, `{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":"a"}}`,
		`{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"x"}}`, `{"jsonrpc":"2.0","id":7,"method":"ping"}`,
	} {
		req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			m.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			m.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		m.requests++
	}
}
