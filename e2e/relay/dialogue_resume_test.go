// A stream that is cut is resumed, and clients that poll are answered, on either side of the daemon.

package relay

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// place is where the connection is cut: between the client and what it talks to, or, through the daemon, between the
// daemon and the server. Directly both are the same.
type place string

const (
	atClient place = "cut at the client"
	atServer place = "cut at the server"
)

var places = []place{atClient, atServer}

// cutRoutes returns for each place the URLs for one client directly and one through the daemon, each with a cutter in its way, which has
// a server of its own.
func cutRoutes(t *testing.T, start harness.Server) (direct, got map[place]string, cutters []*cutter) {
	t.Helper()
	const text = `"progress":1,`
	add := func(endpoint string) string {
		c, url := startCutter(t, endpoint, text)
		cutters = append(cutters, c)
		return url
	}
	d := harness.ThroughAll(t, map[string]string{"client": start(t), "server": add(start(t))})
	direct = map[place]string{atClient: add(start(t)), atServer: add(start(t))}
	got = map[place]string{atClient: add(d.URL("/mcp/client")), atServer: d.URL("/mcp/server")}
	return direct, got, cutters
}

// TestResume cuts the connection of a call's stream after its first event. The client comes back by GET with the last
// event id and gets the rest: from npm's server, which replays what happened meanwhile, and from the Go SDK's, which
// waits for the client and goes on live.
func TestResume(t *testing.T) {
	for _, client := range []string{"ts1", "ts2"} {
		t.Run("replayed/"+client, func(t *testing.T) {
			t.Parallel()
			resume(t, client, harness.NPMServer("streamableHttp"), "replayed")
		})
		t.Run("live/"+client, func(t *testing.T) {
			t.Parallel()
			resume(t, client, resumableServer, "live")
		})
	}
	t.Run("live/go", func(t *testing.T) {
		t.Parallel()
		direct, got, cutters := cutRoutes(t, resumableServer)
		for _, place := range places {
			t.Run(string(place), func(t *testing.T) {
				harness.ComparePlays(t, goCast{}.play(t, direct[place], goResume), goCast{}.play(t, got[place], goResume))
			})
		}
		checkCut(t, cutters)
	})
}

// resume has one client play a scenario with the cutters at all places.
func resume(t *testing.T, client string, start harness.Server, scenario string) {
	t.Helper()
	direct, got, cutters := cutRoutes(t, start)
	var urls []string
	for _, place := range places {
		urls = append(urls, direct[place], got[place])
	}
	printed := harness.RunNode(t, harness.Script("dialogue"), client, "resume", strings.Join(urls, ","), scenario)
	plays := harness.ParsePlays(t, printed, urls...)
	for i, place := range places {
		t.Run(string(place), func(t *testing.T) { harness.ComparePlays(t, plays[2*i], plays[2*i+1]) })
	}
	checkCut(t, cutters)
}

func checkCut(t *testing.T, cutters []*cutter) {
	t.Helper()
	for _, c := range cutters {
		if !c.hasCut() {
			t.Error("no connection was cut")
		}
	}
}

// TestPolling has the server end the stream of a running call and tell the client when to come back (SEP-1699): the
// `retry` field and the end of the stream pass, and the answer comes by GET.
func TestPolling(t *testing.T) {
	for _, client := range []string{"ts1", "ts2"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			dialogue(t, client, "resume", resumableServer, harness.Through, "polling")
		})
	}
}

var goResume = []goScenario{{"resumed", func(p *goPlay) {
	if a := p.connect(); a != nil {
		a.step("call", func(ctx context.Context) error {
			return a.toolWithProgress(ctx, harness.Call{Tool: "slow", Arguments: nil})
		})
		a.step("next", func(ctx context.Context) error { return a.Ping(ctx, nil) })
	}
}}}

// resumableServer is a legacy server on the Go SDK, in this process, with an event store. Its tools go on only when the
// client has come back.
func resumableServer(t testing.TB) string {
	t.Helper()
	returned := make(chan struct{}, 1)
	s := mcp.NewServer(&mcp.Implementation{Name: "resumable", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "slow"}, func(ctx context.Context, r *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		return done(r, errors.Join(sendProgress(ctx, r, 1), await(ctx, returned), sendProgress(ctx, r, 2), sendProgress(ctx, r, 3)))
	})
	mcp.AddTool(s, &mcp.Tool{Name: "poll"}, func(ctx context.Context, r *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		err := sendProgress(ctx, r, 1)
		r.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 20 * time.Millisecond})
		return done(r, errors.Join(err, await(ctx, returned)))
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
		EventStore: mcp.NewMemoryEventStore(nil),
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "" {
			select {
			case returned <- struct{}{}:
			default:
			}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		for session := range s.Sessions() {
			session.Close()
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

func sendProgress(ctx context.Context, r *mcp.CallToolRequest, progress float64) error {
	return r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: r.Params.GetProgressToken(), Progress: progress, Total: 3,
	})
}

func await(ctx context.Context, returned <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, harness.MaxWait)
	defer cancel()
	select {
	case <-returned:
		return nil
	case <-ctx.Done():
		return errors.New("the client has not come back")
	}
}

func done(r *mcp.CallToolRequest, err error) (*mcp.CallToolResult, any, error) {
	text := r.Params.Name + " is done"
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, err
}
