package http1_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// odd are servers as they are out there. Each is asked three times, one request after another, by net/http's Transport on a
// connection each and by one Client: the same must become of each request.
var odd = []struct {
	name     string
	script   mcptest.Script
	conns    int  // that the Client needs: 1 where it may use one again
	stricter bool // what net/http makes something of by guessing is refused here
}{
	{"closes after each answer without saying so", closing(okAnswer), 3, false},
	{"says that it closes", answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), 3, false},
	{"says so and does not close", answering("HTTP/1.1 200 OK\r\nConnection: CLOSE\r\nContent-Length: 2\r\n\r\nok"), 3, false},
	{"HTTP/1.0", closing("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok"), 3, false},
	{"HTTP/1.0 with keep-alive", answering("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"), 1, false},
	{"no reason phrase", answering("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), 1, false},
	{"a body to the end", closing("HTTP/1.1 200 OK\r\n\r\nsome text"), 3, false},
	{"a body in chunks of one byte", answering(chunks(strings.Repeat("1\r\nx\r\n", 500) + "0\r\n\r\n")), 1, false},
	{"sizes filled up with blanks", answering(chunks("2   \r\nok\r\n0  \r\n\r\n")), 1, false},
	{"extensions and trailers", answering(chunks("2;a=b;c\r\nok\r\n0;d\r\nA: b\r\nServer-Timing: c\r\n\r\n")), 1, false},
	{"chunks without the last one", closing(chunks("2\r\nok\r\n")), 3, false},
	{"a chunk that is cut", closing(chunks("5\r\nok")), 3, false},
	{"a body that is cut", closing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"), 3, false},
	{"a head that is cut", closing("HTTP/1.1 200 OK\r\nContent-Le"), 3, false},
	{"reset in the body", resetting("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"), 3, false},
	{"more than its length", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"), 3, false},
	{"two answers", answering(okAnswer + okAnswer), 3, false},
	{"100 and 103 first", answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okAnswer), 1, false},
	{"204", answering("HTTP/1.1 204 No Content\r\n\r\n"), 1, false},
	{"304 with a length", answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"), 1, false},
	{"202 without length, closed", closing("HTTP/1.1 202 Accepted\r\n\r\n"), 3, false},
	{"a byte at a time", trickling(okAnswer), 1, false},
	{"bytes above ASCII in a value", answering("HTTP/1.1 200 OK\r\nX: gr\xfc\xdf\xc3\x9f\r\nContent-Length: 2\r\n\r\nok"), 1, false},
	{"repeated and oddly spelled fields", answering("HTTP/1.1 200 OK\r\nset-cookie: a\r\nSET-COOKIE: b\r\ncontent-length: 2\r\n\r\nok"), 1, false},
	{"a large head", answering("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 40<<10) + "\r\nContent-Length: 2\r\n\r\nok"), 1, false},
	{"a large body", answering("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("0123456789", 30_000)), 1, false},
	{"two lengths that differ", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), 3, false},
	{"a length with a sign", answering("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"), 3, false},
	{"a coding that nobody knows", answering(chunkedAnswer("gzip, chunked", "2\r\nok\r\n0\r\n\r\n")), 3, false},
	{"no HTTP", closing("SSH-2.0-OpenSSH_9.6\r\n"), 3, false},
	{"closes without an answer", mcptest.CloseBeforeHead, 3, false},
	{"lines that end with LF", closing("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), 3, true},
	{"a folded line", answering("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok"), 3, true},
	{"the same length twice", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"), 3, true},
	{"a length and chunks", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), 3, true},
	{"HTTP/1.0 with chunks", closing("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), 3, true},
}

func closing(raw string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Write(raw)
		x.Close()
	}
}

func resetting(raw string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Write(raw)
		x.Reset()
	}
}

func trickling(raw string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Trickle(raw, 100*time.Microsecond)
		x.Whole()
	}
}

func TestOddServers(t *testing.T) {
	for _, server := range odd {
		t.Run(server.name, func(t *testing.T) {
			s := mcptest.NewServer(t, server.script)
			c := newClient(t, s.URL())
			var got, want played
			for range 3 {
				got.play(t, s, c)
				if server.conns > 1 {
					s.AwaitOpen(0)
				}
			}
			if _, conns := s.Connections(); conns != server.conns || s.Received() != 3 {
				t.Errorf("%d requests on %d connections, want %d", s.Received(), conns, server.conns)
			}
			for range 3 {
				want.play(t, s, &http.Transport{DisableCompression: true, DisableKeepAlives: true})
			}
			if server.stricter {
				if got.ok > 0 || want.ok == 0 {
					t.Errorf("got %+v, net/http %+v: it was to be refused here only", got, want)
				}
				return
			}
			if got != want {
				t.Errorf("got %+v, net/http %+v", got, want)
			}
		})
	}
}

// played is what became of three requests.
type played struct {
	ok, failed     int
	status, fields int
	body           string
}

// play sends one request.
func (p *played) play(t *testing.T, s *mcptest.Server, rt http.RoundTripper) {
	r, err := http.NewRequest("POST", s.URL(), strings.NewReader(`{"id":1}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		p.failed++
		return
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		p.failed++
		return
	}
	p.ok++
	for _, name := range []string{"Transfer-Encoding", "Trailer", "Connection"} { // net/http takes these off
		resp.Header.Del(name)
	}
	p.status, p.fields, p.body = resp.StatusCode, len(resp.Header), string(body)
}
