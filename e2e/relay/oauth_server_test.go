// An authorization server, and MCP servers that it protects.

package relay

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"fluentd-perf/e2e/harness"
)

// authorizer is an authorization server whose user always says yes: metadata (RFC 8414), dynamic registration (RFC 7591),
// the code flow with PKCE (RFC 7636) and the resource parameter (RFC 8707), which is what the tests look at.
type authorizer struct {
	mu        sync.Mutex
	url       string
	clients   map[string][]string // client id -> redirect URIs
	codes     map[string]grant
	tokens    map[string]string // token -> resource
	resources []string          // as asked for at the authorization and the token endpoint, in order
}

// grant is what a code stands for.
type grant struct{ client, redirect, challenge, resource string }

func startAuthorizer(t testing.TB) *authorizer {
	t.Helper()
	a := &authorizer{clients: map[string][]string{}, codes: map[string]grant{}, tokens: map[string]string{}}
	mux := http.NewServeMux()
	a.handle(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	a.standsAt(srv.URL)
	return a
}

func (a *authorizer) handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", a.metadata)
	mux.HandleFunc("POST /register", a.register)
	mux.HandleFunc("GET /authorize", a.authorize)
	mux.HandleFunc("POST /token", a.token)
}

// standsAt says where the server is, which is known only once it may be asked already.
func (a *authorizer) standsAt(url string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.url = url
}

func (a *authorizer) origin() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.url
}

func (a *authorizer) metadata(w http.ResponseWriter, _ *http.Request) {
	origin := a.origin()
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         origin,
		"authorization_endpoint":                         origin + "/authorize",
		"token_endpoint":                                 origin + "/token",
		"registration_endpoint":                          origin + "/register",
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"none"},
		"authorization_response_iss_parameter_supported": true,
	})
}

func (a *authorizer) register(w http.ResponseWriter, r *http.Request) {
	var client map[string]any
	if err := json.NewDecoder(r.Body).Decode(&client); err != nil {
		refuse(w, "invalid_client_metadata")
		return
	}
	var redirects []string
	uris, _ := client["redirect_uris"].([]any)
	for _, uri := range uris {
		redirects = append(redirects, fmt.Sprint(uri))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := rand.Text()
	a.clients[id] = redirects
	client["client_id"] = id
	client["token_endpoint_auth_method"] = "none"
	writeJSON(w, http.StatusCreated, client)
}

func (a *authorizer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	g := grant{q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("resource")}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.clients[g.client], g.redirect) || g.challenge == "" || q.Get("code_challenge_method") != "S256" {
		refuse(w, "invalid_request")
		return
	}
	code := rand.Text()
	a.codes[code] = g
	a.resources = append(a.resources, g.resource)
	answer := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {a.url}}
	http.Redirect(w, r, g.redirect+"?"+answer.Encode(), http.StatusFound)
}

func (a *authorizer) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		refuse(w, "invalid_request")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g, known := a.codes[r.PostForm.Get("code")]
	delete(a.codes, r.PostForm.Get("code"))
	hash := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if !known || base64.RawURLEncoding.EncodeToString(hash[:]) != g.challenge || r.PostForm.Get("resource") != g.resource {
		refuse(w, "invalid_grant")
		return
	}
	token := rand.Text()
	a.tokens[token] = g.resource
	a.resources = append(a.resources, r.PostForm.Get("resource"))
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

// issue makes a token for a resource without any flow: what an operator would put into a configuration.
func (a *authorizer) issue(resource string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := rand.Text()
	a.tokens[token] = resource
	return token
}

// resourceOf returns the resource that a token was issued for.
func (a *authorizer) resourceOf(token string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resource, known := a.tokens[token]
	return resource, known
}

// asked returns the resources that clients have asked for, each once.
func (a *authorizer) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(a.resources)))
}

// forget forgets what was asked so far.
func (a *authorizer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resources = nil
}

func refuse(w http.ResponseWriter, code string) {
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// protection says how a protected server treats tokens.
type protection struct {
	strict bool // only tokens that were issued for its own URL
	bare   bool // its 401 names no metadata: clients look at the well-known places

	own       bool             // it has no document: it is its own authorization server, as in 2025-03-26
	challenge string           // WWW-Authenticate of its 401, in place of one that names the metadata
	absent    http.HandlerFunc // own: what it says where the document would lie; nil: 404
	resource  string           // `resource` of the document, in place of its own URL
}

// startProtected is a legacy MCP server with one tool behind bearer tokens of the authorizer. It returns its endpoint.
func startProtected(t testing.TB, a *authorizer, p protection) string {
	t.Helper()
	greeter := mcp.NewServer(&mcp.Implementation{Name: "protected", Version: "1"}, nil)
	mcp.AddTool(greeter, &mcp.Tool{Name: "greet", Description: "says hi"}, harness.Greet)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return greeter }, nil)

	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		for session := range greeter.Sessions() {
			session.Close()
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	endpoint := srv.URL + "/mcp"
	const metadataPath = "/.well-known/oauth-protected-resource/mcp"
	options := &auth.RequireBearerTokenOptions{ResourceMetadataURL: srv.URL + metadataPath}
	if p.bare || p.own {
		options.ResourceMetadataURL = ""
	}
	if p.own {
		a.standsAt(srv.URL)
		a.handle(mux)
		if p.absent != nil {
			mux.Handle("/.well-known/oauth-protected-resource/", p.absent)
		}
	} else {
		mux.Handle(metadataPath, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
			Resource: cmp.Or(p.resource, endpoint), AuthorizationServers: []string{a.origin()}, ScopesSupported: []string{"greet"},
		}))
	}
	protected := auth.RequireBearerToken(a.verifier(endpoint, p.strict), options)(handler)
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if p.challenge != "" && r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", p.challenge)
		}
		protected.ServeHTTP(w, r)
	})
	return endpoint
}

func (a *authorizer) verifier(endpoint string, strict bool) auth.TokenVerifier {
	return func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		resource, known := a.resourceOf(token)
		switch {
		case !known:
			return nil, fmt.Errorf("%w: unknown", auth.ErrInvalidToken)
		case strict && resource != endpoint:
			return nil, fmt.Errorf("%w: issued for another audience", auth.ErrInvalidToken)
		}
		return &auth.TokenInfo{Expiration: time.Now().Add(time.Hour), UserID: "ada"}, nil
	}
}
