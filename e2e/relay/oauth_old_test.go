// OAuth with servers that have no resource metadata, and with those that speak for another.

package relay

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// startOwnAuthorizer is a server of 2025-03-26 and before: it is its own authorization server, with metadata at its origin
// and no document about the protected resource.
func startOwnAuthorizer(t *testing.T) (endpoint string) {
	t.Helper()
	a := &authorizer{clients: map[string][]string{}, codes: map[string]grant{}, tokens: map[string]string{}}
	greeter := mcp.NewServer(&mcp.Implementation{Name: "protected", Version: "1"}, nil)
	mcp.AddTool(greeter, &mcp.Tool{Name: "greet", Description: "says hi"}, harness.Greet)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return greeter }, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", a.metadata)
	mux.HandleFunc("POST /register", a.register)
	mux.HandleFunc("GET /authorize", a.authorize)
	mux.HandleFunc("POST /token", a.token)
	protected := auth.RequireBearerToken(a.verifier("", false), &auth.RequireBearerTokenOptions{})(handler)
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		protected.ServeHTTP(w, r)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		for session := range greeter.Sessions() {
			session.Close()
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	a.standsAt(srv.URL)
	return srv.URL + "/mcp"
}

// TestOAuthWithoutResourceMetadata: clients that sign in at a server without RFC 9728 sign in through the daemon, too.
func TestOAuthWithoutResourceMetadata(t *testing.T) {
	for name, client := range startOAuthClients(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := startOwnAuthorizer(t)
			direct, err := client(t, endpoint)
			through, errThrough := client(t, harness.Through(t, endpoint))
			if name == "ts1" && err != nil {
				t.Errorf("directly: %v", err)
			}
			if err == nil && (errThrough != nil || through != direct) {
				t.Errorf("directly %q, through the daemon %q, %v", direct, through, errThrough)
			}
		})
	}
}

// TestResourceMetadataOfTheDaemonsOwn: it is made only where the server has none and has said 401; `resource` is the URL
// that the agent used, the authorization server is the server's origin.
func TestResourceMetadataOfTheDaemonsOwn(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	s.Script(func(x *mcptest.Exchange) {
		switch {
		case strings.HasPrefix(x.Target, "/.well-known/"):
			x.Say(404, "text/plain", "no such page")
		case x.Get("Authorization") == "":
			x.Say(401, "", "", "WWW-Authenticate: Bearer")
		default:
			mcptest.Minimal(x)
		}
	})
	d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	a := d.Agent(t)
	const well = "/.well-known/oauth-protected-resource"
	a.Post(harness.Request("1", "tools/call"), harness.Bearer("ada"))
	if r := a.Must("GET", well+"/mcp/s", ""); r.Status != 404 {
		t.Errorf("before a 401: %d %s", r.Status, r.Body)
	}
	if r := a.Post(harness.Request("1", "tools/call")); r.Status != 401 || r.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("the 401 arrived as %d %v", r.Status, r.Header)
	}
	for _, path := range []string{"/mcp/s", "/mcp/s/", "/mcp"} {
		r := a.Must("GET", well+path, "")
		var document struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
		}
		if err := json.Unmarshal([]byte(r.Body), &document); err != nil || r.Status != 200 {
			t.Errorf("%s: %d %s", path, r.Status, r.Body)
			continue
		}
		if document.Resource != d.URL(path) || fmt.Sprint(document.Servers) != "[http://"+s.Addr()+"]" {
			t.Errorf("%s: %s", path, r.Body)
		}
	}
}

// TestResourceOfAnother: a document whose `resource` is not this server's passes as it is, so that clients refuse it as they
// would directly (RFC 9728, 3.3). The server's own, and a prefix of it, become the agent's URL.
func TestResourceOfAnother(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{
		"ORIGIN/mcp": true, "ORIGIN/": true, "ORIGIN": true,
		"https://victim.example/mcp": false, "ORIGIN/other": false, "ORIGIN/mc": false, "ORIGIN/mcp/deeper": false,
		"ORIGIN.evil.example/mcp": false, "http://user@HOST/mcp": false, "HTTPS://HOST/mcp": false, "": false, "/mcp": false,
	} {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			t.Parallel()
			var document string
			s := mcptest.NewServer(t, mcptest.Minimal)
			resource := strings.NewReplacer("ORIGIN", "http://"+s.Addr(), "HOST", s.Addr()).Replace(name)
			document = fmt.Sprintf(`{ "resource" : %q,"authorization_servers":["https://as.example"],"x":[1.0,"\u0041"]}`, resource)
			s.Script(mcptest.Saying(200, harness.JSONType, document))
			d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
			r := d.Agent(t).Must("GET", "/.well-known/oauth-protected-resource/mcp/s", "")
			var got struct{ Resource string }
			if err := json.Unmarshal([]byte(r.Body), &got); err != nil || r.Status != 200 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			switch {
			case own && got.Resource != d.URL("/mcp/s"):
				t.Errorf("its own %q arrived as %q", resource, got.Resource)
			case !own && r.Body != document:
				t.Errorf("got %s, want it as it is: %s", r.Body, document)
			}
		})
	}
}
