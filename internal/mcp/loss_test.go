package mcp_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestNamesSession(t *testing.T) {
	for text, want := range map[string]bool{
		`{"code":-32000,"message":"Bad Request: No valid session ID provided"}`: true,
		`{"code":-32001,"message":"unknown SESSION"}`:                           true,
		`{"code":-32001,"message":"Se\u0073sion not found"}`:                    true,
		`{"code":-32000,"message":"no","data":"session"}`:                       false,
		`{"code":-32000,"message":5}`:                                           false,
		`{"code":-32000}`:                                                       false,
		`"session"`:                                                             false,
		``:                                                                      false,
	} {
		if got := mcp.NamesSession([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestSentLikelier(t *testing.T) {
	order := []mcp.Sent{mcp.SentNo, mcp.SentUnknown, mcp.SentYes}
	for i, a := range order {
		for j, b := range order {
			if got := a.Likelier(b); got != order[max(i, j)] {
				t.Errorf("%s and %s: %s", a, b, got)
			}
		}
	}
}
