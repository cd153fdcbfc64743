package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcptest"
)

// plainRequests are those that are answered without net/http.
var plainRequests = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /mcp/name?x=%20y&z HTTP/1.1\r\nHost: localhost:7300\r\nAccept: text/event-stream\r\nConnection: keep-alive\r\n\r\n",
	"POST /mcp/a HTTP/1.1\r\nHost: [::1]:1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
	"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n",
	"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length:  007 \t\r\nX: gr\xfc\xdf\xc3\x9f\r\nEmpty:\r\n\r\n1234567",
	"DELETE /mcp/a-b._~ HTTP/1.1\r\nHost: 127.0.0.1\r\nMcp-Session-Id: s\r\nX: 1\r\nx: 2\r\n\r\n",
	"GET /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	"DELETE /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
}

// otherRequests are left to net/http, for the reason.
var otherRequests = []struct {
	why http1.Replay
	raw string
}{
	{http1.ReplayMethod, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "OPTIONS /mcp HTTP/1.1\r\nHost: a\r\nOrigin: b\r\n\r\n"},
	{http1.ReplayMethod, "post /mcp HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "PUT /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"},
	{http1.ReplayMethod, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"},
	{http1.ReplayMethod, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	{http1.ReplayMethod, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"},
	{http1.ReplayMethod, "SSH-2.0-OpenSSH_9.6\r\n"},
	{http1.ReplayMethod, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "GET http://a/mcp HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "GET http://b/mcp HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayMethod, "\x00\x00\x00\x00"},
	{http1.ReplayMethod, "rubbish\n\n"},
	{http1.ReplayVersion, "GET / HTTP/1.0\r\n\r\n"},
	{http1.ReplayVersion, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"},
	{http1.ReplayVersion, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
	{http1.ReplayVersion, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
	{http1.ReplayVersion, "GET / http/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayVersion, "GET /\r\n\r\n"},
	{http1.ReplayVersion, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayVersion, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
	{http1.ReplayVersion, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET //b/mcp HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /m%63p HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a? HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a?\xff HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a\x00 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayTarget, "GET /a|b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayPath, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
	{http1.ReplayHost, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\nHost: a\n\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nX: b\rContent-Length: 5\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"},
	{http1.ReplaySyntax, "GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na"},
	{http1.ReplayLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12345678901234567890\r\n\r\na"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1;a=b\r\na\r\n0\r\nX: y\r\n\r\n"},
	{http1.ReplayCoding, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTrailer: X\r\n\r\na"},
	{http1.ReplayExpect, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na"},
	{http1.ReplayExpect, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: other\r\n\r\na"},
	{http1.ReplayUpgrade, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n"},
	{http1.ReplayConnection, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n"},
	{http1.ReplayConnection, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n"},
	{http1.ReplayConnection, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 1\r\n\r\na"},
	{http1.ReplayConnection, "GET / HTTP/1.1\r\nHost: a\r\nConnection: X\r\nX: y\r\n\r\n"},
	{http1.ReplayConnection, "GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n"},
}

// TestOddRequests sends each of them, with another one behind it, here and to net/http: an agent gets the same of both, and the handler is
// called for the same requests.
func TestOddRequests(t *testing.T) {
	behind := "GET /mcp?behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, raw := range plainRequests {
		s := newServer(t, sayBack)
		if ours, theirs := exchanged(t, s.addr, raw+behind), exchanged(t, netHTTP(t), raw+behind); ours != theirs || !strings.Contains(ours, "behind") && !strings.Contains(raw, "Close") {
			t.Errorf("%q: got\n%s\nnet/http\n%s", raw, ours, theirs)
		}
		if why := s.reasons(); len(why) > 0 {
			t.Errorf("%q: replayed: %v", raw, why)
		}
	}
	seen := map[http1.Replay]bool{http1.ReplayWatch: true} // for want of memory in the kernel
	for _, r := range otherRequests {
		s := newServer(t, sayBack, func(o *http1.ServerOptions) { o.Takes = func(path string) bool { return path != "/other" } })
		if ours, theirs := exchanged(t, s.addr, r.raw+behind), exchanged(t, netHTTP(t), r.raw+behind); ours != theirs {
			t.Errorf("%q: got\n%s\nnet/http\n%s", r.raw, ours, theirs)
		}
		if why := s.reasons(); !slices.Equal(why, []http1.Replay{r.why}) {
			t.Errorf("%q: replayed: %v, want %v", r.raw, why, r.why)
		}
		seen[r.why] = true
	}
	for _, why := range http1.Replays {
		if !seen[why] {
			t.Errorf("nothing is replayed for %s", why)
		}
	}
}

// netHTTP returns the address of net/http's server.
func netHTTP(t *testing.T) net.Addr {
	return newServer(t, sayBack, func(o *http1.ServerOptions) { o.Compat = true }).addr
}

// exchanged sends bytes and their end, and returns what comes, but for dates.
func exchanged(t *testing.T, addr net.Addr, raw string) string {
	nc := dialServer(t, addr)
	send(t, nc, raw)
	_ = nc.(*net.TCPConn).CloseWrite()
	var all strings.Builder
	br := bufio.NewReader(nc)
	for {
		if _, err := br.Peek(1); err != nil {
			fmt.Fprint(&all, err == io.EOF)
			return all.String()
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			fmt.Fprintln(&all, err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		fmt.Fprintln(&all, res.Status, res.Header.Get("Connection"), string(body), err)
	}
}

// FuzzRequest compares what is read of any bytes with what net/http reads: what is taken here is a request there, with the same method,
// target, host, fields and length.
func FuzzRequest(f *testing.F) {
	for _, raw := range plainRequests {
		f.Add(raw)
	}
	for _, r := range otherRequests {
		f.Add(r.raw)
	}
	f.Fuzz(func(t *testing.T, raw string) { compareRequest(t, raw) })
}

// TestMutatedRequests is a short, equal part of that in every run.
func TestMutatedRequests(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 18))
	seeds := slices.Clone(plainRequests)
	for _, r := range otherRequests {
		seeds = append(seeds, r.raw)
	}
	taken := 0
	for range 20_000 {
		if raw := mutated(rng, seeds); compareRequest(t, raw) {
			taken++
		} else if t.Failed() {
			t.Fatalf("of %q", raw)
		}
	}
	if taken < 1000 {
		t.Errorf("only %d of the requests were taken: the test tests nothing", taken)
	}
}

func compareRequest(t *testing.T, raw string) (taken bool) {
	ours, length, taken := http1.ParseRequest(raw)
	if !taken {
		return false
	}
	br := bufio.NewReaderSize(strings.NewReader(raw), len(raw)+16)
	theirs, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("net/http says %v", err)
	}
	if rest := len(raw) - length - br.Buffered(); rest != 0 {
		t.Errorf("the head is %d bytes longer for net/http", rest)
	}
	if ours.Method != theirs.Method || ours.Target != theirs.RequestURI || ours.Host != theirs.Host || ours.Length != theirs.ContentLength ||
		ours.Path != theirs.URL.Path || ours.Query != theirs.URL.RawQuery || ours.Close != theirs.Close || !theirs.ProtoAtLeast(1, 1) {
		t.Errorf("got %+v, net/http %+v", ours, theirs)
	}
	if len(theirs.TransferEncoding) > 0 || theirs.URL.RawPath != "" || theirs.URL.Host != "" || theirs.URL.ForceQuery {
		t.Errorf("net/http: %+v", theirs)
	}
	l := ours.Header.Clone()
	l.Del("Host")
	sameFields(t, l, theirs.Header)
	return true
}

// TestRealClients has them send to a Server what they send to any: all of it is answered, and what is plain is not replayed.
func TestRealClients(t *testing.T) {
	for name, tt := range map[string]struct {
		command []string
		want    string
		why     string // at most
	}{
		"curl":                  {[]string{"curl", "-sS", "-d", "hello", "URL/mcp", "URL/mcp"}, "POST /mcp ADDR \"hello\"POST /mcp ADDR \"hello\"", ""},
		"curl with HTTP/1.0":    {[]string{"curl", "-sS", "-0", "-d", "hello", "URL/mcp"}, "POST /mcp ADDR \"hello\"", "version"},
		"curl with Expect":      {[]string{"curl", "-sS", "-H", "Expect: 100-continue", "-d", "hello", "URL/mcp"}, "POST /mcp ADDR \"hello\"", "expect"},
		"curl with chunks":      {[]string{"curl", "-sS", "-H", "Transfer-Encoding: chunked", "-d", "hello", "URL/mcp"}, "POST /mcp ADDR \"hello\"", "coding"},
		"curl that upgrades":    {[]string{"curl", "-sS", "--http2", "URL/mcp"}, "GET /mcp ADDR \"\"", "connection upgrade"},
		"curl with a large one": {[]string{"curl", "-sS", "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", "-d", strings.Repeat("x", 100_000), "URL/mcp"}, "200 1\n", ""},
		"curl, HEAD":            {[]string{"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-I", "URL/mcp"}, "200", "method"},
		"curl, OPTIONS":         {[]string{"curl", "-sS", "-X", "OPTIONS", "URL/mcp"}, "OPTIONS /mcp ADDR \"\"", "method"},
		"node": {[]string{"node", "-e", `(async () => { for (const m of ["POST", "POST", "GET", "DELETE"]) {
			const r = await fetch("URL/mcp", {method: m, body: m == "POST" ? "hello" : undefined}); console.log(r.status, await r.text()) } })()`},
			"200 POST /mcp ADDR \"hello\"\n200 POST /mcp ADDR \"hello\"\n200 GET /mcp ADDR \"\"\n200 DELETE /mcp ADDR \"\"\n", ""},
		"python": {[]string{"python3", "-c", `
import http.client
c = http.client.HTTPConnection("ADDR")
for m in "POST", "POST", "GET", "DELETE":
    c.request(m, "/mcp", "hello" if m == "POST" else None)
    r = c.getresponse()
    print(r.status, r.read().decode())
`}, "200 POST /mcp ADDR \"hello\"\n200 POST /mcp ADDR \"hello\"\n200 GET /mcp ADDR \"\"\n200 DELETE /mcp ADDR \"\"\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.command[0]); err != nil {
				t.Logf("no %s here", tt.command[0])
				return
			}
			s := newServer(t, sayBack)
			args := slices.Clone(tt.command[1:])
			for i := range args {
				args[i] = strings.NewReplacer("URL", "http://"+s.addr.String(), "ADDR", s.addr.String()).Replace(args[i])
			}
			cmd := exec.CommandContext(t.Context(), tt.command[0], args...)
			cmd.WaitDelay = mcptest.WaitTimeout
			out, err := cmd.CombinedOutput()
			if want := strings.ReplaceAll(tt.want, "ADDR", s.addr.String()); err != nil || string(out) != want {
				t.Errorf("%v, got %q, want %q", err, out, want)
			}
			for _, why := range s.reasons() {
				if !strings.Contains(tt.why, string(why)) {
					t.Errorf("replayed: %s", why)
				}
			}
			if tt.why != "" && len(s.reasons()) == 0 {
				t.Error("it was not replayed")
			}
		})
	}
}

// TestSlowAgentsHoldNoBuffers: those that send a byte now and then have memory of about what they have sent.
func TestSlowAgentsHoldNoBuffers(t *testing.T) {
	s := newServer(t, sayBack, func(o *http1.ServerOptions) { o.HeadTimeout = time.Minute })
	raw := call("/mcp", "x")
	var all []net.Conn
	for range 50 {
		all = append(all, dialServer(t, s.addr))
	}
	for i := range len(raw) {
		for _, nc := range all {
			send(t, nc, raw[i:i+1])
		}
	}
	for _, nc := range all {
		if g := receive(t, bufio.NewReader(nc)); g.status != 200 {
			t.Errorf("got %+v", g)
		}
	}
}
