package http1_test

import (
	"context"
	"strings"
	"testing"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcptest"
)

// TestRequestBytes holds every byte of a request: spelling, order and repeats, the connection's own fields left out.
func TestRequestBytes(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	r := post(`{"id":1}`)
	for _, name := range []string{"HOST", "content-length", "Connection", "transfer-encoding", "Trailer", "upgrade", "Expect"} {
		r.Header.Add(name, "1")
	}
	mustDo(t, c, r, "ok")
	want := "POST /mcp HTTP/1.1\r\nHost: " + s.Addr() + "\r\ncontent-type: application/json\r\nX-Two: 1\r\nX-Two: 2\r\n" +
		"Content-Length: 8\r\n\r\n{\"id\":1}"
	if got := string(s.AwaitRequest(1).Raw); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	mustDo(t, c, &http1.Request{Method: "GET", Target: "/a?b=c", Host: "other.example"}, "ok")
	if got := string(s.AwaitRequest(2).Raw); got != "GET /a?b=c HTTP/1.1\r\nHost: other.example\r\n\r\n" {
		t.Errorf("got %q", got)
	}
	mustDo(t, c, &http1.Request{Method: "POST", Target: "/"}, "ok")
	if got := s.AwaitRequest(3).Get("Content-Length"); got != "0" {
		t.Errorf("a POST without a body says Content-Length %q", got)
	}
	if _, total := s.Connections(); total != 1 {
		t.Errorf("%d connections, want 1", total)
	}
}

// TestInvalidNeverLeaves holds that nothing is sent of a request that could be taken for two.
func TestInvalidNeverLeaves(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	field := func(name, value string) *http1.Request {
		return &http1.Request{Method: "POST", Target: "/", Header: header.List{{Name: name, Value: value}}}
	}
	for what, r := range map[string]*http1.Request{
		"CR in a value":    field("A", "x\ry"),
		"LF in a value":    field("A", "x\ny"),
		"NUL in a value":   field("A", "x\x00"),
		"DEL in a value":   field("A", "x\x7f"),
		"an empty name":    field("", "x"),
		"a blank in one":   field("A B", "x"),
		"a colon in one":   field("A:", "x"),
		"LF in one":        field("A\n", "x"),
		"LF in the target": {Method: "GET", Target: "/\n"},
		"a blank in it":    {Method: "GET", Target: "/ HTTP/1.1"},
		"no target":        {Method: "GET"},
		"LF in the host":   {Method: "GET", Target: "/", Host: "a\r\nb"},
		"no method":        {Target: "/"},
		"LF in the method": {Method: "GET\n", Target: "/"},
	} {
		_, err := c.Do(context.Background(), r)
		if err == nil {
			t.Fatalf("%s: sent", what)
		}
		wantSent(t, err, http1.SentNo)
		if strings.Contains(err.Error(), "x") && strings.Contains(err.Error(), "y") {
			t.Errorf("%s: the value is in the error: %v", what, err)
		}
	}
	if _, total := s.Connections(); total != 0 {
		t.Errorf("%d connections were opened", total)
	}
}
