package http_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

const heldSize = 64 << 10

// slowly answers with a JSON body of that many bytes: a part of it with the head, the rest when told.
func slowly(answer string, first int, after time.Duration) func(p *peer) {
	return func(p *peer) {
		for p.request() != nil {
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer[:first])
			pass(after)
			if rest := answer[first:]; rest != "" { // a write of nothing waits for a read
				p.say("%s", rest)
			}
		}
	}
}

// sizedAnswer is a result of n bytes.
func sizedAnswer(n int) string {
	const frame = `{"jsonrpc":"2.0","id":7,"result":""}`
	return `{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", n-len(frame)) + `"}`
}

// TestHeldAnswers holds how long and how far an answer that nobody shares is held: up to 64 KiB and a second after its head.
// What is whole by then has been looked into; the rest passes as it comes, all of it.
func TestHeldAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		size   int
		first  int           // bytes that come with the head
		after  time.Duration // when the rest comes
		whole  bool
		at     time.Duration // when the result is there
	}{
		"at once":                {"tools/call", 200, 200, 0, true, 0},
		"just in time":           {"tools/call", 200, 10, time.Second - 1, true, time.Second - 1},
		"too late":               {"tools/call", 200, 10, time.Second + 1, false, time.Second},
		"nothing but the head":   {"tools/call", 200, 0, time.Hour / 10, false, time.Second},
		"as large as is held":    {"tools/call", heldSize, 10, time.Millisecond, true, time.Millisecond},
		"larger":                 {"tools/call", heldSize + 1, 10, time.Minute, false, 0},
		"of an unknown method":   {"vendor/x", 200, 10, time.Minute, false, time.Second},
		"of a list, which waits": {"tools/list", 200, 10, 5 * time.Second, true, 5 * time.Second},
		"of a list, large":       {"tools/list", 2 * heldSize, 10, 5 * time.Second, true, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := sizedAnswer(tt.size)
				u, shut := piped(t, slowly(answer, tt.first, tt.after))
				for range 2 { // the connection is good for another
					start := time.Now()
					res := mustCall(t, u, requestOf(tt.method))
					took(t, start, tt.at)
					if (res.Raw == nil) != tt.whole || res.Checked != tt.whole {
						t.Errorf("raw %v, checked %v", res.Raw != nil, res.Checked)
					}
					if got := textOf(t, res); got != answer {
						t.Errorf("%d bytes of %d, or others", len(got), len(answer))
					}
					took(t, start, tt.after)
					closeResult(t, res)
				}
				shut()
			})
		})
	}
}

// TestHeldChunks is the same for a body whose length nobody knows.
func TestHeldChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := sizedAnswer(3 * heldSize)
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
			for rest := answer; rest != ""; {
				n := min(len(rest), 10_000)
				chunk(p, rest[:n])
				rest = rest[n:]
				pass(time.Millisecond)
			}
			p.say("0\r\n\r\n")
			p.gone()
		})
		start := time.Now()
		res := mustCall(t, u, requestOf("tools/call"))
		took(t, start, 6*time.Millisecond) // with the seventh piece it is too large
		if res.Raw == nil || textOf(t, res) != answer {
			t.Error("it did not pass as it came")
		}
		closeResult(t, res)
		shut()
	})
}

// TestHeldAnswerInDrops holds that of an answer which comes in drops each passes when it comes, once the second is over.
func TestHeldAnswerInDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := sizedAnswer(50)
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(answer))
			for i := range answer {
				pass(300 * time.Millisecond)
				p.say("%s", answer[i:i+1])
			}
			p.gone()
		})
		start := time.Now()
		res := mustCall(t, u, requestOf("tools/call"))
		took(t, start, time.Second)
		got := ""
		for buf, err := make([]byte, 10), error(nil); err == nil; {
			var n int
			n, err = res.Raw.Read(buf)
			got += string(buf[:n])
			took(t, start, max(time.Second, time.Duration(len(got))*300*time.Millisecond))
		}
		if got != answer {
			t.Errorf("got %q", got)
		}
		closeResult(t, res)
		shut()
	})
}

// TestHeldAnswersThatBreakOff holds that what breaks off is never whole: a failure where nothing has left, else an error in
// mid-body.
func TestHeldAnswersThatBreakOff(t *testing.T) {
	for name, after := range map[string]time.Duration{"while it is held": 10 * time.Millisecond, "while it passes": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) {
					p.request()
					p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n12345")
					pass(after)
				})
				res, err := u.Call(t.Context(), requestOf("tools/call"))
				if early := after < time.Second; early != (err != nil) {
					t.Fatalf("got %v", err)
				}
				if err == nil {
					text, broken := io.ReadAll(res.Raw)
					if string(text) != "12345" {
						t.Errorf("got %q", text)
					}
					err = broken
					closeResult(t, res)
				}
				wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBrokeOff, mcp.SentYes)
				shut()
			})
		})
	}
}

// TestHeldAnswerClosedEarly holds that an answer which nobody reads to its end is let go, whoever still reads it.
func TestHeldAnswerClosedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n12345")
			p.gone()
		})
		res := mustCall(t, u, requestOf("tools/call"))
		if n, err := res.Raw.Read(make([]byte, 3)); n != 3 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		closeResult(t, res)
		shut() // and the bubble ends: nothing runs any more
	})
}
