// Clients get their tokens through the daemon as they do directly.

package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"fluentd-perf/e2e/harness"
)

// oauthClient is a client that discovers where to get a token. It returns what the tool said.
type oauthClient func(t *testing.T, url string) (string, error)

// startOAuthClients starts the clients for a test and those that run within it.
func startOAuthClients(t *testing.T) map[string]oauthClient {
	t.Helper()
	return map[string]oauthClient{"ts1": startOAuthTypeScript(t, "ts1"), "ts2": startOAuthTypeScript(t, "ts2"), "go": oauthGo}
}

// TestOAuth has clients find their authorization server by the metadata, which through the daemon is the daemon's copy,
// and call with the token. The resource that they ask the token for is the URL that they use.
func TestOAuth(t *testing.T) {
	clients := startOAuthClients(t)
	kinds := map[string]protection{"named": {}, "well-known": {bare: true}}
	for kind, protection := range kinds {
		for name, client := range clients {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := startAuthorizer(t)
				upstream := startProtected(t, a, protection)
				checkToken(t, a, client, upstream)
				a.forget()
				checkToken(t, a, client, harness.Through(t, upstream))
			})
		}
	}
}

func checkToken(t *testing.T, a *authorizer, client oauthClient, url string) {
	t.Helper()
	text, err := client(t, url)
	if err != nil || text != "Hi Ada" {
		t.Errorf("%s: %q, %v", url, text, err)
	}
	if asked := a.asked(); !slices.Equal(asked, []string{url}) {
		t.Errorf("tokens were asked for %q, want %q", asked, url)
	}
}

// TestOAuthOwnAudience has a server that takes only tokens issued for its own URL, which no client that goes through the
// daemon asks for. The client's error is the server's 401; with the server's token in the configuration it works.
func TestOAuthOwnAudience(t *testing.T) {
	for name, client := range startOAuthClients(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAuthorizer(t)
			upstream := startProtected(t, a, protection{strict: true})
			if text, err := client(t, upstream); err != nil || text != "Hi Ada" {
				t.Errorf("directly: %q, %v", text, err)
			}
			text, err := client(t, harness.Through(t, upstream))
			if err == nil {
				t.Fatalf("through the daemon: %q in spite of the audience", text)
			}
			t.Logf("the client's error: %v", err)
			if !strings.Contains(err.Error(), "401") && !strings.Contains(strings.ToLower(err.Error()), "unauthorized") {
				t.Errorf("the error does not say that the server refused: %v", err)
			}

			token := "headers: {Authorization: Bearer " + a.issue(upstream) + "}"
			if text, err := client(t, harness.ThroughWith(t, upstream, token)); err != nil || text != "Hi Ada" {
				t.Errorf("with the server's token in the configuration: %q, %v", text, err)
			}
		})
	}
}

// TestOAuthOwnAuthorization has servers that know nothing of protected resource metadata (2025-03-26: each is its own
// authorization server), in the ways in which they say so. Signing in works through the daemon as it does directly, under
// every URL that an agent may use.
func TestOAuthOwnAuthorization(t *testing.T) {
	clients := startOAuthClients(t)
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!DOCTYPE html><title>Home</title>")
	}
	who := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	for kind, p := range map[string]protection{
		"Bearer":              {challenge: "Bearer"},
		"no challenge":        {},
		"401 at each path":    {challenge: `Bearer realm="x"`, absent: who},
		"a page at each path": {challenge: "Bearer", absent: page},
	} {
		p.own = true
		for name, client := range clients {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := startAuthorizer(t)
				upstream := startProtected(t, a, p)
				agent := harness.Through(t, upstream)
				urls := []string{upstream, agent}
				if kind == "Bearer" {
					urls = append(urls, agent+"/", strings.TrimSuffix(agent, "/up"), strings.TrimSuffix(agent, "up"))
				}
				for _, url := range urls {
					if text, err := client(t, url); err != nil || text != "Hi Ada" {
						t.Errorf("%s: %q, %v", url, text, err)
					}
				}
			})
		}
	}
}

// TestOAuthOtherResource has a server whose document names another's resource. Clients refuse it directly, so as not to
// get a token for another (RFC 9728, 3.3 and 7.3), and through the daemon as well.
func TestOAuthOtherResource(t *testing.T) {
	clients := startOAuthClients(t)
	for kind, p := range map[string]protection{"named": {}, "well-known": {bare: true}} {
		for name, client := range clients {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := startAuthorizer(t)
				other := p // each has its own: they run at the same time
				other.resource = "https://victim.example/mcp"
				upstream := startProtected(t, a, other)
				for _, url := range []string{upstream, harness.Through(t, upstream)} {
					text, err := client(t, url)
					if err == nil {
						t.Fatalf("%s: %q", url, text)
					}
					if asked := a.asked(); len(asked) > 0 {
						t.Errorf("%s: tokens were asked for %q", url, asked)
					}
					if strings.HasPrefix(name, "ts") && !strings.Contains(err.Error(), "victim.example/mcp does not match") {
						t.Errorf("%s: %v", url, err)
					}
				}
			})
		}
	}
}

// TestOAuthQuery has agents whose URL has a query, which servers' documents do not have.
func TestOAuthQuery(t *testing.T) {
	clients := startOAuthClients(t)
	for kind, p := range map[string]protection{"named": {}, "well-known": {bare: true}, "own": {own: true, challenge: "Bearer"}} {
		for _, name := range []string{"ts1", "ts2"} { // Go's client takes only a document with the query in it, directly too
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := startAuthorizer(t)
				upstream := startProtected(t, a, p)
				for _, url := range []string{upstream, harness.Through(t, upstream)} {
					if text, err := clients[name](t, url+"?toolsets=core,alerting"); err != nil || text != "Hi Ada" {
						t.Errorf("%s: %q, %v", url, text, err)
					}
					for _, asked := range a.asked() {
						if strings.Contains(asked, "toolsets") {
							t.Errorf("%s: a token was asked for %s", url, asked)
						}
					}
				}
			})
		}
	}
}

// TestOAuthMetadata compares the documents: only `resource` differs, and the authorization server is the server's own.
func TestOAuthMetadata(t *testing.T) {
	a := startAuthorizer(t)
	upstream := startProtected(t, a, protection{})
	agentURL := harness.Through(t, upstream)
	direct := metadataOf(t, upstream, "/mcp")
	origin := strings.TrimSuffix(agentURL, "/mcp/up")
	for path, resource := range map[string]string{"/mcp/up": agentURL, "/mcp": origin + "/mcp"} {
		got := metadataOf(t, agentURL, path)
		if got["resource"] != resource {
			t.Errorf("%s: resource is %v, want %s", path, got["resource"], resource)
		}
		got["resource"] = direct["resource"]
		if d, g := string(harness.RawJSON(direct)), string(harness.RawJSON(got)); d != g {
			t.Errorf("%s: %s, want %s", path, g, d)
		}
	}
}

func metadataOf(t *testing.T, endpoint, path string) map[string]any {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/.well-known/oauth-protected-resource" + path
	response, err := harness.HTTPClient.Get(u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v\n%s", u, response.StatusCode, err, body)
	}
	var document map[string]any
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	return document
}

// startOAuthTypeScript starts one process of Node for all that a test asks of a client: to load the SDK is most of what a process does.
func startOAuthTypeScript(t *testing.T, kind string) oauthClient {
	t.Helper()
	cmd := exec.Command(harness.Node, harness.Script("oauth"), kind)
	cmd.Dir, cmd.SysProcAttr = harness.NodeDir, harness.ChildAttributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	node := harness.StartCommand(t, cmd)
	var asked atomic.Int64
	return func(t *testing.T, url string) (string, error) {
		t.Helper()
		number := asked.Add(1)
		if _, err := fmt.Fprintln(stdin, number, url); err != nil {
			t.Fatal(err)
		}
		printed := node.Announced(t, fmt.Sprintf(`(?m)^%d (.+)\n`, number))
		var outcome struct {
			Text  string
			Error *struct {
				Name, Message string
				Code          any
			}
		}
		if err := json.Unmarshal([]byte(printed), &outcome); err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		if e := outcome.Error; e != nil {
			return "", fmt.Errorf("%s (%v): %s", e.Name, e.Code, e.Message)
		}
		return outcome.Text, nil
	}
}

func oauthGo(t *testing.T, endpoint string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.MaxWait)
	defer cancel()
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	const redirect = "http://127.0.0.1:9/callback"
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			RedirectURIs: []string{redirect}, ClientName: "e2e-go", TokenEndpointAuthMethod: "none",
		}},
		RedirectURL:              redirect,
		AuthorizationCodeFetcher: fetchCode,
		Client:                   &http.Client{Transport: base},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: &http.Client{Transport: base}, OAuthHandler: handler,
	}, nil)
	if err != nil {
		return "", err
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "greet", Arguments: harness.Greeting{Name: "Ada"}})
	if err != nil {
		return "", err
	}
	return result.Content[0].(*mcp.TextContent).Text, nil
}

// fetchCode follows the authorization URL as a browser would whose user says yes at once.
func fetchCode(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, args.URL, nil)
	if err != nil {
		return nil, err
	}
	response, err := harness.HTTPClient.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	location, err := response.Location()
	if err != nil {
		return nil, err
	}
	answer := location.Query()
	return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, nil
}
