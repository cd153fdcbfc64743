package redis_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// TestMalformed asks servers that are none: a read is an error, every call ends in time, nothing is believed, and no answer
// makes the tier reserve what it announces.
func TestMalformed(t *testing.T) {
	for name, answer := range map[string]string{
		"HTTP":                   "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"zeroes":                 strings.Repeat("\x00", 10_000),
		"a string without end":   "$9223372036854775807\r\n",
		"a string of 100 GB":     "$100000000000\r\nx",
		"a list of 10 billion":   "*10000000000\r\n",
		"lists of 65536":         strings.Repeat("*65536\r\n", 100),
		"a map":                  "%1000000000\r\n",
		"a blob error":           "!100000000000\r\n",
		"lists in lists":         strings.Repeat("*1\r\n", 100_000),
		"lists in longer lists":  strings.Repeat("*2\r\n:1\r\n", 100_000),
		"a line without end":     "+" + strings.Repeat("x", 1<<20),
		"a negative length":      "$-2\r\n",
		"a length that is none":  "$1e9\r\n",
		"a length with zeroes":   "$" + strings.Repeat("0", 100) + "5\r\nhello\r\n",
		"nothing":                "",
		"one":                    ":1\r\n",
		"nil":                    "$-1\r\n",
		"a nil list":             "*-1\r\n",
		"an empty list":          "*0\r\n",
		"a list of nil":          "*2\r\n$-1\r\n$-1\r\n",
		"a list of numbers":      "*2\r\n:1\r\n:2\r\n",
		"tokens that are none":   "*2\r\n$0\r\n\r\n$16\r\nzzzzzzzzzzzzzzzz\r\n",
		"a token of 0":           "*2\r\n$0\r\n\r\n$16\r\n0000000000000000\r\n",
		"too few":                "*1\r\n$0\r\n\r\n",
		"a value and no end":     "*2\r\n$10\r\n01234567890123\r\n",
		"a message of a channel": "*3\r\n$7\r\nmessage\r\n:1\r\n*1\r\n:5\r\n",
		"a kind that is none":    "*3\r\n:1\r\n:1\r\n:1\r\n",
		"an error":               "-ERR no\r\n",
		"a script unknown":       "-NOSCRIPT no\r\n",
		"moved":                  "-MOVED 1 127.0.0.1:1\r\n",
		"loading":                "-LOADING Redis is loading the dataset in memory\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const timeout = 500 * time.Millisecond
			url := fakeServer(t, func(c net.Conn) {
				b := make([]byte, 4096)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := c.Write([]byte(answer)); err != nil || answer == "" {
						return
					}
				}
			})
			tier := newTier(t, url, newRecorder().listen, func(o *redis.Options) { o.Timeout = timeout })
			stopwatch := tiertest.Stopwatch(t)
			for name, call := range calls(tier, newThing()) {
				var err error
				took := stopwatch(func() { err = call(context.Background()) })
				if err == nil && name == "Read" {
					t.Error("it was read")
				}
				if took > 3*timeout {
					t.Errorf("%s took %v", name, took)
				}
			}
		})
	}
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.Sys > 1<<30 {
		t.Errorf("%d bytes were reserved", m.Sys)
	}
}

// TestDrip answers one byte at a time, for ever: the timeout is for the whole answer.
func TestDrip(t *testing.T) {
	const timeout = 400 * time.Millisecond
	url := fakeServer(t, func(c net.Conn) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.Write([]byte("+")); err != nil {
				return
			}
		}
	})
	tier := newTier(t, url, func(o *redis.Options) { o.Timeout = timeout })
	stopwatch := tiertest.Stopwatch(t)
	for name, call := range calls(tier, newThing()) {
		var err error
		if took := stopwatch(func() { err = call(context.Background()) }); err == nil || took > 2*timeout {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

// FuzzAnswers gives the bytes as answers: whatever they are, the read ends, and finds nothing.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "*2\r\n$0\r\n\r\n$16\r\n0123456789abcdef\r\n", "*2\r\n*1\r\n$-1\r\n:5\r\n", "$3\r\nabc\r\n-ERR x\r\n",
	} {
		f.Add([]byte(seed), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, hello, answer []byte) {
		url := fakeServer(t, func(c net.Conn) {
			b := make([]byte, 4096)
			for _, out := range [][]byte{hello, answer, answer} {
				if _, err := c.Read(b); err != nil {
					return
				}
				if _, err := c.Write(out); err != nil {
					return
				}
			}
		})
		tier := newTier(t, url, func(o *redis.Options) { o.Timeout = 50 * time.Millisecond })
		if found, err := tier.Read(context.Background(), newThing().lookups()); err == nil && found[0].Value != nil {
			t.Errorf("found %q", found[0].Value)
		}
	})
}
