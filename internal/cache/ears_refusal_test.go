package cache

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestEarsDoNotRepeatARefusal(t *testing.T) {
	refusals := map[string]func(s *earStream) (*mcp.Result, error){
		"401": func(*earStream) (*mcp.Result, error) { return earJSON(401, ""), nil },
		"404": func(*earStream) (*mcp.Result, error) {
			return earJSON(404, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`), nil
		},
		"429": func(*earStream) (*mcp.Result, error) { return earJSON(429, ""), nil },
		"302": func(*earStream) (*mcp.Result, error) { return earJSON(302, ""), nil },
		"202": func(*earStream) (*mcp.Result, error) { return &mcp.Result{Status: 202}, nil },
		"an error": func(*earStream) (*mcp.Result, error) {
			return earJSON(200, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`), nil
		},
		"an error event": func(s *earStream) (*mcp.Result, error) {
			res := s.open()
			go func() {
				s.feed <- mcp.Event{Data: []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`)}
			}()
			return res, nil
		},
		"no MCP": func(*earStream) (*mcp.Result, error) {
			return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}
		},
	}
	for name, answer := range refusals {
		t.Run(name, func(t *testing.T) {
			earTest(t, &earServer{listen: answer}, func(r *earRig) {
				r.stored(earCall(""), earAsker(1))
				for d := time.Duration(0); d < 10*time.Minute; d += time.Minute {
					r.at(d)
					r.stored(earCall(""), earAsker(1))
				}
				r.at(10*time.Minute - 1)
				r.wantLog("0s server/discover, 0s lists")
				r.server.change(func() { r.server.listen = nil })
				r.at(10 * time.Minute)
				r.wantLog("0s server/discover, 0s lists, 10m0s lists")
				r.wantStanding(1)
			})
		})
	}
}

func TestEarsDoNotRepeatARefusedDiscover(t *testing.T) {
	server := &earServer{capabilities: `[]`}
	earTest(t, server, func(r *earRig) {
		for d := time.Duration(0); d < 10*time.Minute; d += time.Minute {
			r.at(d)
			r.stored(earCall("u"), earAsker(1))
		}
		r.at(10*time.Minute - 1)
		r.wantLog("0s server/discover")
		server.change(func() { server.capabilities = "" })
		r.at(10 * time.Minute)
		r.wantStanding(2)
		if log := server.log(); !strings.HasPrefix(log, "0s server/discover, 10m0s server/discover, ") {
			t.Errorf("asked was %s", log)
		}
	})
}

// A refusal is remembered longer than the partition lasts, and only for what was refused.
func TestEarsRememberARefusalOfAnIdlePartition(t *testing.T) {
	server := &earServer{listen: func(s *earStream) (*mcp.Result, error) {
		if s.what == "lists" {
			return earJSON(403, ""), nil
		}
		return s.open(), nil
	}}
	earTest(t, server, func(r *earRig) {
		r.stored(earCall("u"), earAsker(1))
		r.wantStanding(1)
		r.at(5 * time.Minute) // idle
		r.wantStanding(0)
		r.refused(earAsker(1)) // as the agent's credential is, and back
		r.at(7 * time.Minute)
		r.stored(earCall("u"), earAsker(1))
		r.wantStanding(1)
		r.refused(earAsker(1))
		r.wantStanding(0)
		r.at(8 * time.Minute)
		r.stored(earCall("u"), earAsker(1))
		r.at(10*time.Minute - 1)
		if n := len(server.times("lists")); n != 1 {
			t.Errorf("a refused listen was asked for %d times", n)
		}
		server.change(func() { server.listen = nil })
		r.at(10 * time.Minute)
		if n := len(server.times("lists")); n != 2 {
			t.Errorf("10 min after the refusal the listen was asked for %d times, want 2", n)
		}
		r.wantStanding(2)
	})
}

// What a request comes to that this side gave up is no refusal.
func TestEarsDoNotTakeTheirOwnEndForARefusal(t *testing.T) {
	server := &earServer{listen: func(s *earStream) (*mcp.Result, error) {
		if s.what == "lists" {
			<-s.ctx.Done()
		}
		return earJSON(404, ""), nil
	}}
	earTest(t, server, func(r *earRig) {
		r.stored(earCall("u"), earAsker(1))
		synctest.Wait()
		r.refused(earAsker(1)) // the server's refusal of the uris is remembered
		r.at(time.Minute)
		r.stored(earCall("u"), earAsker(1))
		synctest.Wait()
		if lists, uris := server.times("lists"), server.times("uris"); len(lists) != 2 || len(uris) != 1 {
			t.Errorf("asked was for lists at %v and for uris at %v", lists, uris)
		}
	})
}

// Refused partitions keep their places until the refusal is over, then they make room.
func TestEarsMakeRoomAfterRefusals(t *testing.T) {
	server := &earServer{capabilities: `[]`}
	earTest(t, server, func(r *earRig) {
		for i := range 40 {
			r.stored(earCall(""), earAsker(i))
		}
		r.at(10*time.Minute - 1)
		r.stored(earCall(""), earAsker(100))
		synctest.Wait()
		if n := len(server.times("server/discover")); n != 32 {
			t.Errorf("discover was asked %d times, want 32", n)
		}
		server.change(func() { server.capabilities = "" })
		r.at(10 * time.Minute)
		r.stored(earCall(""), earAsker(100))
		r.wantStanding(1)
		if n := len(*r.known.Load()); n != 1 {
			t.Errorf("%d partitions are known, want 1", n)
		}
	})
}

func TestEarsGiveUpASlowDiscover(t *testing.T) {
	server := &earServer{discover: func(ctx context.Context) (*mcp.Result, error) {
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes}
	}}
	earTest(t, server, func(r *earRig) {
		r.stored(earCall(""), earAsker(1))
		r.at(time.Minute)
		server.change(func() { server.discover = nil })
		r.wantStanding(0)
		r.at(time.Minute + 2*time.Second)
		r.wantStanding(1)
	})
}
