package proxy_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// TestQuery holds what of an agent's query goes on: all but what the operator has set, byte for byte.
func TestQuery(t *testing.T) {
	for _, c := range []struct{ configured, agent, want string }{
		{"", "", ""},
		{"", "toolsets=core", "toolsets=core"},
		{"", "a=1&&b=%7e&a=2&c&=d&%zz=1&e=f=g;h&+i=%2B", "a=1&&b=%7e&a=2&c&=d&%zz=1&e=f=g;h&+i=%2B"},
		{"", "x?y#z", "x?y#z"},
		{"key=s", "a=1&key=mine&b=2", "a=1&b=2"},
		{"key=s", "key=mine", ""},
		{"key=s", "key", ""},
		{"key=s", "key=1&key=2&KEY=3&keys=4", "KEY=3&keys=4"},
		{"key=s", "%6bey=mine&a=%6bey", "a=%6bey"},
		{"%6Bey=s", "key=mine", ""},
		{"a%20b=s", "a+b=1&a%20b=2&ab=3", "ab=3"},
		{"key=s", "a=1;key=mine&b=2", "b=2"},
		{"a=1;key=s", "key=mine&b=2", "b=2"},
		{"key=s", "&a=1&", "&a=1&"},
		{"key", "key=mine&b", "b"},
		{"=s", "=mine&b&&c", "b&&c"},
		{"key=s", "%key=1&%zz", "%key=1&%zz"},
		{"%zz=s", "%zz=mine&%zy", "%zy"},
		{"key=s", strings.Repeat("a=1&", 1000) + "key=2", strings.TrimSuffix(strings.Repeat("a=1&", 1000), "&")},
	} {
		o := observe(t, accepted, func(o *proxy.Options) {
			o.Upstreams[0].URL = mustURL(t, "http://server.test/mcp?"+c.configured)
			o.Upstreams[0].Array = o.Upstreams[0].Caller
		})
		for _, r := range [][2]string{{"POST", "/mcp/s"}, {"GET", "/mcp/s"}, {"DELETE", "/mcp/s"}, {"POST", "/rpc/s"}, {"POST", "/mcp"}, {"POST", "/mcp/s/"}} {
			o.got = mcp.Call{}
			// Not by a client of Go's, which writes queries in its own way.
			a := raw(t, o.base, r[0]+" "+r[1]+"?"+c.agent+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			if !strings.HasPrefix(a, "HTTP/1.1 202 ") || o.got.Query != c.want {
				t.Errorf("%s?%s, %s: the server gets %q, want %q, answer %q", r, c.agent, c.configured, o.got.Query, c.want, a)
			}
		}
	}
}

// TestQueryOfAllURLs holds that what any of `urls` sets is the operator's.
func TestQueryOfAllURLs(t *testing.T) {
	o := observe(t, accepted, func(o *proxy.Options) {
		o.Upstreams[0].URLs = []*url.URL{mustURL(t, "http://a.test/mcp"), mustURL(t, "http://b.test/mcp?key=s")}
	})
	do(t, "POST", o.base+"/mcp/s?key=mine&a=1", listTools)
	if o.got.Query != "a=1" {
		t.Errorf("the server gets %q", o.got.Query)
	}
}

// TestQueryIsNotLogged holds that an agent's query, which may be a secret, is in no line, whatever comes of the request.
func TestQueryIsNotLogged(t *testing.T) {
	const secret = "key=TOPSECRET"
	answers := map[string]func() (*mcp.Result, error){
		"accepted": accepted,
		"a failure": func() (*mcp.Result, error) {
			return nil, &mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Message: "no", Cause: errors.New("refused")}
		},
		"an agent that left": func() (*mcp.Result, error) {
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: context.Canceled}
		},
		"a stream": func() (*mcp.Result, error) {
			return streaming(&scripted{end: &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff}})(t.Context(), nil)
		},
	}
	for name, answer := range answers {
		o := observe(t, answer, func(o *proxy.Options) { o.Upstreams[0].Array = o.Upstreams[0].Caller })
		lines := 0
		for _, path := range []string{"/mcp/s", "/mcp/s/", "/mcp", "/mcp/", "/mcp/none", "/mcp/s/message/x", "/rpc/s", "/rpc/s/", "/rpc/none", "/", metadataOf + "/s", metadataOf + "/none"} {
			for _, verb := range []string{"POST", "GET", "DELETE", "PUT"} {
				for _, header := range []string{"X: 1", "Origin: http://evil.test", "Content-Length: 9999999"} {
					raw(t, o.base, verb+" "+path+"?"+secret+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+header+"\r\n\r\n")
					lines++
				}
			}
		}
		if text := o.log.String(); strings.Contains(text, "TOPSECRET") || strings.Count(text, "\n") < lines/10 {
			t.Errorf("%s: the log is %s", name, text)
		}
	}
}

// TestTrailingSlash holds that every path is the same with a slash behind it, and with a query.
func TestTrailingSlash(t *testing.T) {
	o := observe(t, accepted, func(o *proxy.Options) {
		o.Upstreams[0].Array = o.Upstreams[0].Caller
		old := o.Upstreams[0]
		old.Name, old.OldTransport = "old", true
		o.Upstreams = append(o.Upstreams, old)
	})
	only := observe(t, accepted, nil)
	for _, c := range []struct {
		at         *observed
		verb, path string
		lane       mcp.Lane
	}{
		{o, "POST", "/mcp/s", mcp.LaneRequest}, {o, "GET", "/mcp/s", mcp.LaneStream}, {o, "DELETE", "/mcp/s", mcp.LaneEnd},
		{o, "POST", "/mcp/old/message/7", mcp.LaneMessage}, {o, "POST", "/rpc/s", mcp.LaneArray},
		{o, "GET", metadataOf + "/s", mcp.LaneFetch},
		{only, "POST", "/mcp", mcp.LaneRequest}, {only, "GET", "/mcp", mcp.LaneStream}, {only, "GET", metadataOf, mcp.LaneFetch},
	} {
		for _, tail := range []string{"", "/", "?a=1", "/?a=1"} {
			c.at.got = mcp.Call{}
			a := do(t, c.verb, c.at.base+c.path+tail, listTools)
			want := strings.TrimLeft(tail, "/?")
			if c.lane == mcp.LaneFetch {
				want = ""
			}
			if a.status != 202 || c.at.got.Lane != c.lane || c.at.got.Query != want {
				t.Errorf("%s %s%s: %d, lane %d, query %q", c.verb, c.path, tail, a.status, c.at.got.Lane, c.at.got.Query)
			}
			if c.lane == mcp.LaneMessage && c.at.got.Endpoint != "7" {
				t.Errorf("%s%s: endpoint %q", c.path, tail, c.at.got.Endpoint)
			}
		}
	}
	for path, want := range map[string]string{
		"/mcp/": "several upstreams", "/mcp": "several upstreams", "/mcp/none/": `"none"`, "/mcp/s//": "nothing here",
		"/mcp//": "nothing here", "/rpc/none/": `"none"`, "/mcps": "nothing here",
	} {
		if a := do(t, "POST", o.base+path, listTools); a.status != 404 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s, want %s", path, a.status, a.body, want)
		}
	}
}
