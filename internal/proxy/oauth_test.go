package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// challenging answers POSTs with a 401, and metadata requests with document.
func challenging(challenge []string, documents map[string]string, asked *[]string) mcp.CallerFunc {
	return func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane != mcp.LaneFetch {
			return &mcp.Result{Status: 401, Header: header.Of(http.Header{"Www-Authenticate": challenge}), Body: []byte("no")}, nil
		}
		*asked = append(*asked, c.Target.String())
		doc, ok := documents[c.Target.String()]
		if !ok {
			return &mcp.Result{Status: 404, Header: header.List{}, Body: []byte("none")}, nil
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
		{"behind an escaped quote", `Bearer realm="a\", resource_metadata=b", RESOURCE_METADATA=http://server.test/y`,
			`Bearer realm="a\", resource_metadata=b", RESOURCE_METADATA="BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"in a string without end", `Bearer realm="a, resource_metadata=http://server.test/y\`, `Bearer realm="a, resource_metadata=http://server.test/y\`},
		{"part of a name", `Bearer x_resource_metadata=http://server.test/y`, `Bearer x_resource_metadata=http://server.test/y`},
		{"white space", `Bearer resource_metadata = "http://server.test/y"`, `Bearer resource_metadata = "BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"two challenges", `A resource_metadata="http://server.test/y", B resource_metadata="http://server.test/z"`,
			`A resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s", B resource_metadata="BASE/.well-known/oauth-protected-resource/mcp/s"`},
		{"none", `Basic realm="x"`, `Basic realm="x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			_, base := newHandler(t, challenging([]string{`Basic realm="first"`, c.in}, nil, &asked), nil)
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
	_, base := newHandler(t, challenging([]string{`Bearer resource_metadata="http://server.test/elsewhere"`}, docs, &asked), nil)

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
	do(t, "POST", base+"/mcp/s", listTools) // now the server has said where the document lies
	const named = "http://server.test/elsewhere"
	asked = nil
	if a := do(t, "GET", base+path+"/s", ""); a.body != want || strings.Join(asked, " ") != named+" "+withPath+" "+root {
		t.Errorf("%d %q after asking %v", a.status, a.body, asked)
	}
	docs[named], asked = strings.Replace(doc, `"x":1.0`, `"x":2`, 1), nil
	if a := do(t, "GET", base+path+"/s", ""); !strings.Contains(a.body, `"x":2`) || strings.Join(asked, " ") != named {
		t.Errorf("%d %q after asking %v", a.status, a.body, asked)
	}
}

// TestMetadataPaths holds the well-known places of servers at other paths.
func TestMetadataPaths(t *testing.T) {
	const root = "/.well-known/oauth-protected-resource"
	for endpoint, want := range map[string]string{
		"http://server.test":                 root,
		"http://server.test/":                root,
		"http://server.test/a/b/?key=secret": root + "/a/b " + root,
		"http://server.test/a%2Fb/c%20d":     root + "/a%2Fb/c%20d " + root,
	} {
		var asked []string
		_, base := newHandler(t, challenging(nil, nil, &asked), func(o *proxy.Options) { o.Upstreams[0].URL = mustURL(t, endpoint) })
		do(t, "GET", base+root+"/mcp/s?query=agents", "")
		if got := strings.ReplaceAll(strings.Join(asked, " "), "http://server.test", ""); got != want {
			t.Errorf("%s: asked %s, want %s", endpoint, got, want)
		}
	}
}

// TestResource holds that only the server's own URL, or what stands for it, becomes the agent's: clients refuse another's,
// and have to (RFC 9728, 3.3).
func TestResource(t *testing.T) {
	for resource, own := range map[string]bool{
		`http://server.test/base/mcp`:           true,
		`http:\/\/server.test\/base\/mcp`:       true,
		`http://server.test/base/mcp/`:          true,
		`http://server.test/base`:               true,
		`http://server.test/base/`:              true,
		`http://server.test/`:                   true,
		`http://server.test`:                    true,
		`HTTP://SERVER.TEST:80/base/mcp`:        true,
		`http://server.test/base/mcp?key=s`:     true, // of the configured URL
		`http://server.test/other/mcp`:          true, // one of `urls`
		`https://victim.example/mcp`:            false,
		`https://server.test/base/mcp`:          false,
		`http://server.test:8080/base/mcp`:      false,
		`http://server.test.evil.test/base/mcp`: false,
		`http://server.test@evil.test/base/mcp`: false,
		`http://agent@server.test/base/mcp`:     false,
		`http://server.test/base/mc`:            false,
		`http://server.test/base/mcp2`:          false,
		`http://server.test/base/mcp/more`:      false,
		`http://server.test/Base`:               false,
		`http://server.test/base/../victim`:     false,
		`http://server.test/base/mcp?tenant=b`:  false,
		`http://server.test/base/mcp#fragment`:  false,
		`//server.test/base/mcp`:                false,
		`/base/mcp`:                             false,
		`urn:server`:                            false,
		``:                                      false,
		`http://server.test/%zz`:                false,
		`http://127.0.0.1:7300/mcp/s`:           false,
		`http://server.test/other/mcp?tenant=b`: false,
		`http://server.test/another`:            false,
	} {
		doc := `{"resource":"` + resource + `","authorization_servers":["https://as.test"]}`
		var asked []string
		docs := map[string]string{"http://server.test/.well-known/oauth-protected-resource": doc}
		_, base := newHandler(t, challenging(nil, docs, &asked), func(o *proxy.Options) {
			u := mustURL(t, "http://server.test/base/mcp?key=s")
			o.Upstreams[0].URL, o.Upstreams[0].URLs = u, []*url.URL{u, mustURL(t, "http://server.test/other/mcp")}
		})
		do(t, "POST", base+"/mcp/s", listTools) // 401
		want := doc
		if own {
			want = `{"resource":"` + base + `/mcp/s","authorization_servers":["https://as.test"]}`
		}
		if a := do(t, "GET", base+metadataOf+"/s", ""); a.status != 200 || a.body != want {
			t.Errorf("%s: got %d %s, want %s", resource, a.status, a.body, want)
		}
	}
}

const metadataOf = "/.well-known/oauth-protected-resource/mcp"

// TestAgentsURL holds that `resource` is the URL as the agent writes it, and that the challenge leads there.
func TestAgentsURL(t *testing.T) {
	const doc, named = `{"resource":"http://server.test/base/mcp"}`, "http://server.test/named"
	for _, docs := range []map[string]string{{}, {named: doc}} {
		for _, path := range []string{"/s", "/s/", "", "/"} {
			var asked []string
			_, base := newHandler(t, challenging([]string{`Bearer resource_metadata="` + named + `"`}, docs, &asked), nil)
			a := do(t, "POST", base+"/mcp"+path+"?query=secret", listTools)
			if want := `Bearer resource_metadata="` + base + metadataOf + path + `"`; a.header.Get("WWW-Authenticate") != want {
				t.Errorf("%q: got %s, want %s", path, a.header.Get("WWW-Authenticate"), want)
			}
			want := `{"resource":"` + base + `/mcp` + path + `","authorization_servers":["http://server.test"]}`
			if len(docs) > 0 {
				want = `{"resource":"` + base + `/mcp` + path + `"}`
			}
			if a := do(t, "GET", base+metadataOf+path+"?query=secret", ""); a.status != 200 || a.body != want {
				t.Errorf("%q: got %d %s, want %s", path, a.status, a.body, want)
			}
			if got := strings.Join(asked, " "); strings.Contains(got, "query") {
				t.Errorf("%q: asked for %s", path, got)
			}
		}
	}
}

// TestOwnDocument holds when the daemon makes a document of its own: where the server has none, in all the ways in which
// servers say so, and a call was answered 401.
func TestOwnDocument(t *testing.T) {
	none := func(status int, body string) func() *mcp.Result {
		return func() *mcp.Result {
			return &mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {"text/html"}, "Etag": {"x"}}), Body: []byte(body)}
		}
	}
	streamed := func(status int, body string) func() *mcp.Result {
		return func() *mcp.Result {
			return &mcp.Result{Status: status, Header: header.List{}, Raw: io.NopCloser(strings.NewReader(body))}
		}
	}
	for name, c := range map[string]struct {
		says func() *mcp.Result
		own  bool
	}{
		"404":                    {none(404, "none"), true},
		"404, streamed":          {streamed(404, "none"), true},
		"401 at each path":       {none(401, "who"), true},
		"403":                    {none(403, "no"), true},
		"405":                    {none(405, "POST"), true},
		"a page":                 {none(200, "<html>"), true},
		"a page, streamed":       {streamed(200, "<html>"), true},
		"an error in a 200":      {none(200, `{"error":"not found"}`), true},
		"a resource of null":     {none(200, `{"resource":null}`), true},
		"an array":               {none(200, `[]`), true},
		"a document with a mark": {none(200, "\ufeff"+`{"resource":"http://a.test"}`), false},
		"a resource twice":       {none(200, `{"resource":"http://a.test","resource":"http://server.test/base/mcp"}`), false},
		"another's":              {none(200, `{"resource":"http://a.test"}`), false},
		"429":                    {none(429, "later"), false},
		"500":                    {none(500, "broken"), false},
		"503":                    {none(503, "later"), false},
		"a redirect":             {none(302, ""), false},
		"more than a document":   {streamed(200, strings.Repeat("x", 300<<10)), false},
	} {
		t.Run(name, func(t *testing.T) {
			status := 200
			_, base := newHandler(t, func(_ context.Context, call *mcp.Call) (*mcp.Result, error) {
				if call.Lane == mcp.LaneFetch {
					return c.says(), nil
				}
				return &mcp.Result{Status: status, Header: header.Of(http.Header{"Www-Authenticate": {"Bearer"}}), Body: []byte("no")}, nil
			}, nil)
			get := func() answer { return do(t, "GET", base+metadataOf+"/s", "") }
			servers := get()
			if strings.Contains(servers.body, "http://server.test\"]") {
				t.Errorf("before any call: %s", servers.body)
			}
			for _, status = range []int{200, 403, 500} {
				do(t, "POST", base+"/mcp/s", listTools)
				if a := get(); a.status != servers.status || a.body != servers.body {
					t.Errorf("after %d: got %d %s", status, a.status, a.body)
				}
			}
			status = 401
			if a := do(t, "GET", base+"/mcp/s", ""); a.status != 401 || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("the challenge is %d %q", a.status, a.header.Get("WWW-Authenticate"))
			}
			a := get()
			if own := strings.Contains(a.body, `"authorization_servers":["http://server.test"]`); own != c.own {
				t.Errorf("got %d %s", a.status, a.body)
			}
			if c.own && (a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("Etag") != "") {
				t.Errorf("got %d %v", a.status, a.header)
			}
			if !c.own && (a.status != servers.status || a.body != servers.body) {
				t.Errorf("got %d %s, want what the server says: %d %s", a.status, a.body, servers.status, servers.body)
			}
		})
	}
}

// TestMarkedDocument holds that a byte order mark before a document hides nothing of it: clients do not see one, so the
// document is the server's, and `resource` becomes the agent's URL. Another's document passes as it came, and what is no document
// is none with a mark either.
func TestMarkedDocument(t *testing.T) {
	const mark = "\ufeff"
	for _, c := range []struct{ doc, want string }{
		{`{"resource":"http://server.test/base/mcp","x":1.0}`, `{"resource":"BASE/mcp/s","x":1.0}`},
		{"\r\n" + `{"x":"` + mark + `","resource":"http://server.test"}`, "\r\n" + `{"x":"` + mark + `","resource":"BASE/mcp/s"}`},
		{`{"resource":"https://victim.example/mcp"}`, mark + `{"resource":"https://victim.example/mcp"}`},
		{`<html>`, `{"resource":"BASE/mcp/s","authorization_servers":["http://server.test"]}`},
		{``, `{"resource":"BASE/mcp/s","authorization_servers":["http://server.test"]}`},
	} {
		for _, streamed := range []bool{false, true} {
			_, base := newHandler(t, func(_ context.Context, call *mcp.Call) (*mcp.Result, error) {
				if call.Lane != mcp.LaneFetch {
					return &mcp.Result{Status: 401, Header: header.Of(http.Header{"Www-Authenticate": {"Bearer"}})}, nil
				}
				res := &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Length": {"1000"}})}
				if streamed {
					res.Raw = io.NopCloser(strings.NewReader(mark + c.doc))
				} else {
					res.Body = []byte(mark + c.doc)
				}
				return res, nil
			}, nil)
			do(t, "POST", base+"/mcp/s", listTools) // 401
			a := do(t, "GET", base+metadataOf+"/s", "")
			if want := strings.ReplaceAll(c.want, "BASE", base); a.status != 200 || a.body != want {
				t.Errorf("%q, streamed %v: got %d %q, want %q", c.doc, streamed, a.status, a.body, want)
			}
		}
	}
}

// TestMetadataElsewhere has a gateway that guards the well-known place with the endpoint's path, and a challenge that names a
// place where nothing lies: the document at the root is found.
func TestMetadataElsewhere(t *testing.T) {
	_, base := newHandler(t, func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		switch {
		case c.Lane != mcp.LaneFetch:
			h := header.Of(http.Header{"Www-Authenticate": {`Bearer resource_metadata="http://server.test/base/mcp/.well-known/oauth-protected-resource"`}})
			return &mcp.Result{Status: 401, Header: h}, nil
		case !c.Whole:
			t.Error("a document may come in pieces")
		case c.Target.Path == "/.well-known/oauth-protected-resource":
			return jsonResult(`{"resource":"http://server.test/","authorization_servers":["https://as.test"]}`), nil
		case strings.HasPrefix(c.Target.Path, "/.well-known/"):
			return &mcp.Result{Status: 401, Header: header.List{}}, nil
		}
		return &mcp.Result{Status: 404, Header: header.List{}}, nil
	}, nil)
	do(t, "POST", base+"/mcp/s", listTools)
	want := `{"resource":"` + base + `/mcp/s","authorization_servers":["https://as.test"]}`
	if a := do(t, "GET", base+metadataOf+"/s", ""); a.status != 200 || a.body != want {
		t.Errorf("got %d %s, want %s", a.status, a.body, want)
	}
}

// TestDocumentInPieces holds that a document is rewritten whatever its type: static files often have none that says JSON.
func TestDocumentInPieces(t *testing.T) {
	const doc = `{"resource":"http://server.test/base/mcp"}`
	broken := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "broke off"}
	for _, c := range []struct {
		name   string
		raw    io.Reader
		header header.List
		status int
		want   string
	}{
		{"no type", strings.NewReader(doc), header.List{}, 200, `{"resource":"BASE/mcp/s"}`},
		{"with a length", strings.NewReader(doc), header.Of(http.Header{"Content-Length": {"42"}}), 200, `{"resource":"BASE/mcp/s"}`},
		{"encoded", strings.NewReader(doc), header.Of(http.Header{"Content-Encoding": {"x"}}), 200, doc},
		{"broken off", io.MultiReader(strings.NewReader(doc[:9]), errReader{broken}), header.List{}, 502, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			closed := 0
			_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
				return &mcp.Result{Status: 200, Header: c.header, Raw: closing{c.raw, &closed}}, nil
			}, nil)
			a := do(t, "GET", base+metadataOf+"/s", "")
			if want := strings.ReplaceAll(c.want, "BASE", base); a.status != c.status || want != "" && a.body != want {
				t.Errorf("got %d %s, want %d %s", a.status, a.body, c.status, want)
			}
			if closed != 1 {
				t.Errorf("the server's body was closed %d times", closed)
			}
		})
	}
}

type closing struct {
	io.Reader
	closed *int
}

func (c closing) Close() error { *c.closed++; return nil }

// TestPassthrough holds that `oauth: passthrough` rewrites nothing.
func TestPassthrough(t *testing.T) {
	const challenge = `Bearer resource_metadata="http://server.test/x"`
	const root, doc = "http://server.test/.well-known/oauth-protected-resource", `{"resource":"http://server.test/base/mcp"}`
	for _, docs := range []map[string]string{{}, {root: doc}} {
		var asked []string
		_, base := newHandler(t, challenging([]string{challenge}, docs, &asked), func(o *proxy.Options) { o.Upstreams[0].RewriteOAuth = false })
		if a := do(t, "POST", base+"/mcp/s", listTools); a.header.Get("WWW-Authenticate") != challenge {
			t.Errorf("got %q", a.header.Get("WWW-Authenticate"))
		}
		status, want := 404, "none"
		if len(docs) > 0 {
			status, want = 200, doc
		}
		if a := do(t, "GET", base+metadataOf+"/s", ""); a.status != status || a.body != want {
			t.Errorf("got %d %s, want %d %s", a.status, a.body, status, want)
		}
	}
}

// failingClose is a body whose Close fails.
type failingClose struct{ io.Reader }

func (failingClose) Close() error { return errors.New("planted") }

// TestDocumentCloses holds that a document that came whole is handed on, however its connection ends.
func TestDocumentCloses(t *testing.T) {
	_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		body := failingClose{strings.NewReader(`{"resource":"http://server.test/base/mcp"}`)}
		return &mcp.Result{Status: 200, Header: header.List{}, Raw: body}, nil
	}, nil)
	if a := do(t, "GET", base+metadataOf+"/s", ""); a.status != 200 || !strings.Contains(a.body, base+"/mcp/s") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
