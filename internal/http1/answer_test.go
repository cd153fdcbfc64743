package http1_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
)

// valid are answers and their bodies.
var valid = []struct {
	method, raw, body string
	kept              bool
}{
	{"POST", okAnswer, "ok", true},
	{"POST", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok", true},
	{"POST", "HTTP/1.1 200 \r\nContent-Length:\t2 \r\n\r\nok", "ok", true},
	{"POST", "HTTP/1.1 404 N\xc3\xb6\r\nContent-Length: 0\r\n\r\n", "", true},
	{"POST", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", false},
	{"POST", "HTTP/1.1 200 OK\r\nConnection: a, CLOSE ,b\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok", false},
	{"POST", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
	{"POST", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", false},
	{"POST", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", "ok", false},
	{"POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n002  \r\nok\r\n00\r\n\r\n", "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1;\"x;y\"\r\nk\r\n0;c\r\nA: b\r\nC: d\r\n\r\n", "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", true},
	{"POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", "ok", false},
	{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "", true},
	{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", true},
	{"POST", "HTTP/1.1 204 No Content\r\n\r\n", "", true},
	{"POST", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"POST", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", false},
	{"POST", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "", true},
	{"POST", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okAnswer, "ok", true},
	{"POST", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 64) + okAnswer, "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 199) + "Content-Length: 2\r\n\r\nok", "ok", true},
	{"POST", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 65<<10-1100) + "\r\nContent-Length: 2\r\n\r\nok", "ok", true},
}

// invalid are what one would have to guess about, and what is cut off. None of it is a whole answer.
var invalid = []string{
	"", "H", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
	"SSH-2.0-OpenSSH\r\n", "http/1.1 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.10 200 OK\r\n\r\n",
	"HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1\t200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n",
	"HTTP/1.1 +20 OK\r\n\r\n", "HTTP/1.1 200 O\x00K\r\n\r\n", "HTTP/1.1 200 O\rK\r\n\r\n", "\r\n" + okAnswer,
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
	"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nA\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nA\xff: b\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nContent-Length: 00000000000000000002\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
	"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",
	chunkedAnswer("chunked\r\nContent-Length: 2", "2\r\nok\r\n0\r\n\r\n"), chunkedAnswer("chunked\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
	chunkedAnswer("chunked, identity", "2\r\nok\r\n0\r\n\r\n"), chunkedAnswer("gzip, chunked", "2\r\nok\r\n0\r\n\r\n"), chunkedAnswer("xchunked", "2\r\nok\r\n0\r\n\r\n"),
	chunkedAnswer("identity", "ok"), chunkedAnswer("", "2\r\nok\r\n0\r\n\r\n"), chunkedAnswer("chunked\r\n ", "2\r\nok\r\n0\r\n\r\n"),
	"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	chunkedAnswer("chunked\r\nTrailer: content-length", "2\r\nok\r\n0\r\n\r\n"),
	chunks("2\r\nok"), chunks("2\r\nok\r\n"), chunks("2\r\nok\r\n0\r\n"), chunks("2\r\nok\r\n0\r\nA: b\r\n"), chunks("2\r\nokk\r\n0\r\n\r\n"), chunks("2\r\no\r\n0\r\n\r\n"),
	chunks("\r\n"), chunks(";a\r\nok\r\n0\r\n\r\n"), chunks(" 2\r\nok\r\n0\r\n\r\n"), chunks("+2\r\nok\r\n0\r\n\r\n"), chunks("-2\r\nok\r\n0\r\n\r\n"), chunks("0x2\r\nok\r\n0\r\n\r\n"),
	chunks("2 2\r\nok\r\n0\r\n\r\n"), chunks("2g\r\nok\r\n0\r\n\r\n"), chunks("2\nok\r\n0\r\n\r\n"), chunks("2;a\nok\r\n0\r\n\r\n"), chunks("2\r\nok\n0\r\n\r\n"), chunks("2\r\nok\r\n0\n\r\n"),
	chunks("2\r\nok\r\n0\r\n\n"), chunks("2\r\rok\r\n0\r\n\r\n"), chunks("2;\x00\r\nok\r\n0\r\n\r\n"), chunks("2;a\rb\r\nok\r\n0\r\n\r\n"), chunks("10000000000000002\r\nok\r\n0\r\n\r\n"),
	chunks("0000000000000002\r\nok\r\n0\r\n\r\n"), chunks("ffffffffffffffff\r\nok\r\n0\r\n\r\n"), chunks("2;" + strings.Repeat("x", 1<<20) + "\r\nok\r\n0\r\n\r\n"),
	chunks(strings.Repeat("1;"+strings.Repeat("x", 900)+"\r\no\r\n", 20) + "0\r\n\r\n"),
	chunks("0\r\nA : b\r\n\r\n"), chunks("0\r\nA: b\r\n c\r\n\r\n"), chunks("0\r\nA: b\n\r\n"), chunks("0\r\n" + strings.Repeat("A: bcdefghijklmnop\r\n", 250) + "\r\n"),
	chunks("0\r\n" + strings.Repeat("A: b\r\n", 700) + "\r\n"), chunks("0\r\nA: " + strings.Repeat("b", 1100) + "\r\n\r\n"),
	strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 65) + okAnswer,
	"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 200) + "Content-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 64<<10) + "\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 600)+"\r\n", 120) + "Content-Length: 2\r\n\r\nok",
}

func chunkedAnswer(coding, body string) string {
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + "\r\n\r\n" + body
}

func chunks(body string) string { return chunkedAnswer("chunked", body) }

// TestValidAnswers reads each answer in pieces of several sizes.
func TestValidAnswers(t *testing.T) {
	for _, v := range valid {
		for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
			o := readCanned(t, v.method, v.raw, piece)
			if o.err != nil || o.body != v.body {
				t.Errorf("%.80q in pieces of %d: %q, %v", v.raw, piece, o.body, o.err)
			} else if o.kept != v.kept && o.left == 0 {
				t.Errorf("%.80q in pieces of %d: kept %v", v.raw, piece, o.kept)
			}
		}
	}
}

// TestInvalidAnswers holds that none of them is taken for whole, whatever pieces it comes in.
func TestInvalidAnswers(t *testing.T) {
	for _, raw := range invalid {
		for _, piece := range []int{1, 3, 1 << 20} {
			o := readCanned(t, "POST", raw, piece)
			if o.err == nil {
				t.Errorf("%.80q in pieces of %d: taken for %q", raw, piece, o.body)
				continue
			}
			if want := http1.SentYes; raw != "" {
				wantSent(t, o.err, want)
			}
			if !errors.Is(o.err, http1.ErrMalformed) && !errors.Is(o.err, io.ErrUnexpectedEOF) {
				t.Errorf("%.80q: %v", raw, o.err)
			}
		}
	}
}

// TestBareLFIsRefusedAtOnce holds that a server that ends its lines with LF is not waited for until a timeout: nothing that
// it may still send makes a head of it.
func TestBareLFIsRefusedAtOnce(t *testing.T) {
	o := readCanned(t, "POST", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 1)
	if !errors.Is(o.err, http1.ErrMalformed) || o.a != nil {
		t.Errorf("got %v", o.err)
	}
}

// TestHTTP2OnlyIsNamed holds that a server that begins with HTTP/2's SETTINGS is named for what it is.
func TestHTTP2OnlyIsNamed(t *testing.T) {
	for _, piece := range []int{1, 4, 100} {
		if o := readCanned(t, "POST", "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", piece); !errors.Is(o.err, http1.ErrHTTP2) {
			t.Errorf("in pieces of %d: %v", piece, o.err)
		}
	}
}

// TestAnswerHeader holds that fields are kept as they came: spelling, order, repeats.
func TestAnswerHeader(t *testing.T) {
	o := readCanned(t, "POST", "HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\nSet-Cookie: a\r\nX-Empty:\r\nset-cookie:  b \t\r\n\r\nok", 100)
	want := header.List{{Name: "content-LENGTH", Value: "2"}, {Name: "Set-Cookie", Value: "a"}, {Name: "X-Empty"}, {Name: "set-cookie", Value: "b"}}
	if fmt.Sprint(o.a.Header) != fmt.Sprint(want) || o.a.Status != 200 || o.a.Length != 2 {
		t.Errorf("got %d %v %d", o.a.Status, o.a.Header, o.a.Length)
	}
}
