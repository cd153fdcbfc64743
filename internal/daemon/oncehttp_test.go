package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// TestOnceOverHTTP has a hundred agents ask the whole daemon over HTTP for the same thing at once, three times: the
// server is asked once for each, and each agent gets its own answer.
func TestOnceOverHTTP(t *testing.T) {
	const agents = 100
	for name, answer := range map[string]mcptest.Script{
		"JSON": func(x *mcptest.Exchange) { x.Result(`{"contents":[],` + pipePrivate + `}`) },
		"SSE": func(x *mcptest.Exchange) {
			s := x.Stream()
			s.Answer(`{"contents":[],` + pipePrivate + `}`)
			s.End()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var reads atomic.Int64
			server := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				if x.Method() != "resources/read" {
					x.Say(http.StatusNotFound, "text/plain", "not here") // the daemon's own listen
					return
				}
				reads.Add(1)
				answer(x)
			})
			url := "http://" + serving(t, "listen: 127.0.0.1:0\n", "s="+server.URL()) + "/mcp/s"
			for wave := range 3 {
				onceOverHTTP(t, url, fmt.Sprintf("doc:///%d", wave), agents)
				if got := reads.Swap(0); got != 1 {
					t.Errorf("wave %d: the server was asked %d times", wave, got)
				}
			}
		})
	}
}

// onceOverHTTP sends equal reads at once, each on a connection of its own, and checks the ids of the answers.
func onceOverHTTP(t *testing.T, url, uri string, agents int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range agents {
		wg.Go(func() {
			c := pipeCall("Bearer x", pipeID(i), "resources/read", fmt.Sprintf(`"uri":%q,`, uri))
			req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(c.Body))
			if err != nil {
				t.Error(err)
				return
			}
			for _, f := range c.Header {
				req.Header.Add(f.Name, f.Value)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Mcp-Protocol-Version", c.Version)
			req.Header.Set("Mcp-Name", uri)
			<-start
			if err := oncePost(client, req, string(c.ID())); err != nil {
				t.Errorf("agent %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
}

// oncePost sends a request and checks that its answer has the id.
func oncePost(client *http.Client, req *http.Request, id string) error {
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if _, event, ok := bytes.Cut(body, []byte("data: ")); ok {
		body, _, _ = bytes.Cut(event, []byte("\n\n"))
	}
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil || m.Kind != mcp.KindResult || string(m.ID.Of(body)) != id {
		return fmt.Errorf("status %d, %v: %s", res.StatusCode, err, body)
	}
	return nil
}
