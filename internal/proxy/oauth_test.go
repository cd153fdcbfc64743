package proxy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// challenging answers POSTs with a 401, and metadata requests with document.
func challenging(challenge []string, documents map[string]string, asked *[]string) mcp.CallerFunc {
	return func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane != mcp.LaneFetch {
			return &mcp.Result{Status: 401, Header: http.Header{"Www-Authenticate": challenge}, Body: []byte("no")}, nil
		}
		*asked = append(*asked, c.Target.String())
		doc, ok := documents[c.Target.String()]
		if !ok {
			return &mcp.Result{Status: 404, Header: http.Header{}, Body: []byte("none")}, nil
		}
		return jsonResult(doc), nil
	}
}

// TestChallenge holds that only the upstream's own resource_metadata is replaced, and everything else stays.
func TestChallenge(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"own", `Bearer resource_metadata="http://server.test/.well-known/x", scope="a b"`, `Bearer resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s", scope="a b"`},
		{"own, default port, unquoted", `Bearer error="x",resource_metadata=http://server.test:80/y`, `Bearer error="x",resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"elsewhere", `Bearer resource_metadata="https://other.test/x"`, `Bearer resource_metadata="https://other.test/x"`},
		{"in a string", `Bearer realm="resource_metadata=http://server.test/x"`, `Bearer realm="resource_metadata=http://server.test/x"`},
		{"white space", `Bearer resource_metadata = "http://server.test/y"`, `Bearer resource_metadata = "BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"two challenges", `A resource_metadata="http://server.test/y", B resource_metadata="http://server.test/z"`,
			`A resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s", B resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"none", `Basic realm="x"`, `Basic realm="x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			_, base := newDoor(t, challenging([]string{`Basic realm="first"`, c.in}, nil, &asked), nil)
			a := do(t, "POST", base+"/mcp/s", listTools)
			got := a.header["Www-Authenticate"]
			if want := strings.ReplaceAll(c.want, "BASE", base); a.status != 401 || a.body != "no" || len(got) != 2 || got[1] != want || got[0] != `Basic realm="first"` {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestMetadata holds where the upstream's document is looked for and what is changed in it.
func TestMetadata(t *testing.T) {
	const doc = `{"resource" : "http://server.test/base/mcp","authorization_servers":["https://as.test"], "x":1.0}`
	withPath, root := "http://server.test/.well-known/oauth-protected-resource/base/mcp", "http://server.test/.well-known/oauth-protected-resource"
	var asked []string
	docs := map[string]string{root: doc}
	_, base := newDoor(t, challenging([]string{`Bearer resource_metadata="http://server.test/elsewhere"`}, docs, &asked), nil)

	const path = "/.well-known/oauth-protected-resource/mcp"
	a := do(t, "GET", base+path+"/s", "")
	want := strings.Replace(doc, `"http://server.test/base/mcp"`, `"`+base+`/mcp/s"`, 1)
	if a.status != 200 || a.body != want {
		t.Errorf("got %d %s, want %s", a.status, a.body, want)
	}
	if got := strings.Join(asked, " "); got != withPath+" "+root {
		t.Errorf("asked %s", got)
	}
	if a := do(t, "GET", base+path, ""); !strings.Contains(a.body, `"`+base+`/mcp"`) {
		t.Errorf("the alias's resource: %s", a.body)
	}
	do(t, "POST", base+"/mcp/s", listTools) // now it is known where the document lies
	asked = nil
	if a := do(t, "GET", base+path+"/s", ""); a.status != 404 || a.body != "none" || strings.Join(asked, " ") != "http://server.test/elsewhere" {
		t.Errorf("%d %q after asking %v", a.status, a.body, asked)
	}
}

// TestPassthrough holds that `oauth: passthrough` rewrites nothing.
func TestPassthrough(t *testing.T) {
	const challenge = `Bearer resource_metadata="http://server.test/x"`
	var asked []string
	_, base := newDoor(t, challenging([]string{challenge}, nil, &asked), func(o *proxy.Options) { o.Upstreams[0].RewriteOAuth = false })
	if a := do(t, "POST", base+"/mcp/s", listTools); a.header.Get("WWW-Authenticate") != challenge {
		t.Errorf("got %q", a.header.Get("WWW-Authenticate"))
	}
}
