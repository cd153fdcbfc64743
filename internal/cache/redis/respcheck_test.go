package redis_test

import (
	"strings"
	"testing"

	"fluentd-perf/internal/cache/redis"
)

// TestCheckRESP holds the check to the grammar, whole and cut at every byte.
func TestCheckRESP(t *testing.T) {
	lists := func(n int) string { return strings.Repeat("*1\r\n", n) + ":1\r\n" }
	for stream, good := range map[string]bool{
		"+OK\r\n-ERR no\r\n:-5\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n": true,
		"$100\r\n" + strings.Repeat("*", 100) + "\r\n+OK\r\n":     true,
		"$101\r\n":      false,
		"$1\r\nabc\r\n": false,
		"*3\r\n:1\r\n*2\r\n$-1\r\n*0\r\n$2\r\n\r\n\r\n" + lists(8): true,
		lists(8) + lists(8): true,
		lists(9):            false,
		"*2\r\n" + lists(7) + strings.TrimSuffix(lists(7), ":1\r\n"): true,
		"*2\r\n" + lists(8):              false,
		"*65536\r\n":                     true,
		"*65537\r\n":                     false,
		"$\r\n":                          false,
		"$5x\r\n":                        false,
		"*-2\r\n":                        false,
		"\r\n":                           false,
		"_\r\n":                          false,
		">1\r\n":                         false,
		"+" + strings.Repeat("x", 16384): true,
		"+" + strings.Repeat("x", 16385): false,
	} {
		short := stream[:min(len(stream), 40)]
		if err := redis.CheckRESP(100, []byte(stream)); (err == nil) != good {
			t.Errorf("%q: %v", short, err)
		}
		var bytes [][]byte
		for i := range stream {
			bytes = append(bytes, []byte{stream[i]})
		}
		if err := redis.CheckRESP(100, bytes...); (err == nil) != good {
			t.Errorf("%q byte by byte: %v", short, err)
		}
	}
}

// FuzzCheckRESP: where a stream is cut makes no difference.
func FuzzCheckRESP(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nabc\r\n:1\r\n"), uint(7))
	f.Add([]byte("$200\r\n"), uint(2))
	f.Fuzz(func(t *testing.T, stream []byte, at uint) {
		cut := int(at % uint(len(stream)+1))
		whole, parts := redis.CheckRESP(100, stream), redis.CheckRESP(100, stream[:cut], stream[cut:])
		if (whole == nil) != (parts == nil) {
			t.Errorf("whole: %v, in parts: %v", whole, parts)
		}
	})
}
