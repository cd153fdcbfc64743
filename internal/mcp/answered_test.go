package mcp_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
)

// TestAnsweredBy holds which answers are a sign of life: the call's id, of another type perhaps, or an error without one.
func TestAnsweredBy(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`
	for body, want := range map[string]bool{
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`:    true,
		`{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":""}}`:  true,
		`{"jsonrpc":"2.0","id":1.0,"result":{}}`:                      true,
		`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}`: true,
		`{"jsonrpc":"2.0","error":{"code":1,"message":""}}`:           true,
		`{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":""}}`:    false,
		`{"jsonrpc":"2.0","id":null,"result":{}}`:                     false,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                    false,
		`<html>`: false,
	} {
		c := mcp.Call{Lane: mcp.LaneRequest, Body: []byte(request)}
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			t.Fatal(err)
		}
		r := mcp.Result{Status: 500, Body: []byte(body)}
		if mcp.Scan(r.Body, &r.Message) != nil {
			r.Message = mcp.Message{}
		}
		if got := c.AnsweredBy(&r); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
