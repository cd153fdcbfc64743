package cache

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestEarsHoldOneGETOfALegacyServer(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		c := earLegacyCall()
		r.legacy(c, earAsker(1))
		c.Header["Authorization"][0] = "Bearer another"
		r.legacy(earLegacyCall(), earAsker(1))
		r.wantLog("0s GET")
		r.wantStanding(1)
		s := r.server.last(t, "GET")
		header := http.Header{"Authorization": {"Bearer one"}, "Accept": {"text/event-stream"}, "Mcp-Protocol-Version": {"2025-06-18"}}
		if g := s.call; !reflect.DeepEqual(g.Header, header) || g.Body != nil || g.Lane != mcp.LaneStream || g.Era != mcp.EraLegacy ||
			g.Version != "2025-06-18" || g.Upstream != "docs" || g.Message != (mcp.Message{}) || g.Start.IsZero() {
			t.Errorf("the call is %+v", g)
		}
		if !r.hears(earAsker(1)) || r.hears(earAsker(2)) {
			t.Errorf("1 hears: %v, 2 hears: %v", r.hears(earAsker(1)), r.hears(earAsker(2)))
		}
		s.say("")
		s.say(toolsChanged)
		s.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		s.say(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		s.say(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`)
		s.say(`[{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"},{"jsonrpc":"2.0","id":1,"method":"ping"},` +
			`{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}]`)
		r.wantHeard("notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed")
		r.wantStanding(1)
		r.wantLost()
	})
}

func TestEarsTellOfALostLegacyStream(t *testing.T) {
	for name, end := range map[string]func(s *earStream){
		"a break":     func(s *earStream) { s.end(errEarBroke) },
		"a clean end": func(s *earStream) { s.end(io.EOF) },
		"rubbish":     func(s *earStream) { s.say(`{`) },
	} {
		t.Run(name, func(t *testing.T) {
			earTest(t, &earServer{}, func(r *earRig) {
				r.legacy(earLegacyCall(), earAsker(1))
				r.legacy(earLegacyCall(), earAsker(2))
				synctest.Wait()
				s := r.server.last(t, "GET") // of one of the two
				lost, other := earAsker(1), earAsker(2)
				r.at(time.Second)
				end(s)
				if r.hears(earAsker(1)) {
					lost, other = other, lost
				}
				r.wantLost(lost)
				if r.hears(lost) || !r.hears(other) {
					t.Error("the wrong partition was lost")
				}
				r.at(3 * time.Second)
				if !r.hears(lost) {
					t.Error("the stream was not opened again")
				}
				r.wantLost(lost)
				r.wantStanding(2)
			})
		})
	}
}

func TestEarsDoNotRepeatARefusedGET(t *testing.T) {
	for name, answer := range map[string]func(s *earStream) (*mcp.Result, error){
		"405": func(*earStream) (*mcp.Result, error) { return &mcp.Result{Status: 405}, nil },
		"404": func(*earStream) (*mcp.Result, error) { return &mcp.Result{Status: 404, Body: []byte("no")}, nil },
		"500": func(*earStream) (*mcp.Result, error) { return &mcp.Result{Status: 500}, nil },
		"200 JSON": func(*earStream) (*mcp.Result, error) {
			return earJSON(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
		},
		"204": func(*earStream) (*mcp.Result, error) { return &mcp.Result{Status: 204}, nil },
		"206": func(s *earStream) (*mcp.Result, error) {
			res := s.open()
			res.Status = 206
			return res, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			earTest(t, &earServer{get: answer}, func(r *earRig) {
				for d := time.Duration(0); d < 10*time.Minute; d += 3 * time.Minute {
					r.at(d)
					r.legacy(earLegacyCall(), earAsker(1))
				}
				r.at(10*time.Minute - 1)
				r.wantLog("0s GET")
				r.wantStanding(0)
				if r.hears(earAsker(1)) {
					t.Error("it hears")
				}
				r.server.change(func() { r.server.get = nil })
				r.at(10 * time.Minute)
				r.wantLog("0s GET, 10m0s GET")
				r.wantStanding(1)
				if !r.hears(earAsker(1)) {
					t.Error("it does not hear")
				}
				r.wantLost()
			})
		})
	}
}

func TestEarsTryAGETAgain(t *testing.T) {
	server := &earServer{get: func(*earStream) (*mcp.Result, error) { return nil, errEarBroke }}
	earTest(t, server, func(r *earRig) {
		r.legacy(earLegacyCall(), earAsker(1))
		r.at(2 * time.Second)
		if n := len(server.times("GET")); n != 2 {
			t.Errorf("within 2 s it was tried %d times, want 2", n)
		}
		server.change(func() { server.get = nil })
		r.at(10 * time.Second)
		r.wantStanding(1)
		r.wantLost() // none had stood
	})
}

// A stream that does not end when it should is not joined by another of the same partition.
func TestEarsWaitForTheEndOfTheGETBefore(t *testing.T) {
	server := &earServer{get: func(s *earStream) (*mcp.Result, error) {
		s.ctx = context.WithoutCancel(s.ctx)
		return s.open(), nil
	}}
	earTest(t, server, func(r *earRig) {
		r.legacy(earLegacyCall(), earAsker(1))
		r.wantStanding(1)
		first := server.last(t, "GET")
		server.change(func() { server.get = nil })
		r.refused(earAsker(1))
		for range 3 { // lives that see nothing but the end of the first
			r.legacy(earLegacyCall(), earAsker(1))
			r.refused(earAsker(1))
		}
		r.legacy(earLegacyCall(), earAsker(1))
		r.at(time.Minute)
		r.wantLog("0s GET")
		r.wantLost()
		if r.hears(earAsker(1)) {
			t.Error("it hears")
		}
		first.end(io.EOF)
		r.wantLog("0s GET, 1m0s GET")
		r.wantLost(earAsker(1))
		r.wantStanding(1)
		if !r.hears(earAsker(1)) {
			t.Error("it does not hear")
		}
	})
}
