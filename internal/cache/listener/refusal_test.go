package listener

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestARefusalIsNotRepeated(t *testing.T) {
	refusals := map[string]func(s *fakeStream) (*mcp.Result, error){
		"401": func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(401, ""), nil },
		"404": func(*fakeStream) (*mcp.Result, error) {
			return jsonAnswer(404, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`), nil
		},
		"429": func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(429, ""), nil },
		"302": func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(302, ""), nil },
		"202": func(*fakeStream) (*mcp.Result, error) { return &mcp.Result{Status: 202}, nil },
		"an error": func(*fakeStream) (*mcp.Result, error) {
			return jsonAnswer(200, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`), nil
		},
		"an error event": func(s *fakeStream) (*mcp.Result, error) {
			res := s.open()
			go func() {
				s.feed <- mcp.Event{Data: []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`)}
			}()
			return res, nil
		},
		"no MCP": func(*fakeStream) (*mcp.Result, error) {
			return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}
		},
	}
	for name, answer := range refusals {
		t.Run(name, func(t *testing.T) {
			listenerTest(t, &server{listen: answer}, func(r *rig) {
				r.Stored(modernCall(""), partitionOf(1))
				for d := time.Duration(0); d < 10*time.Minute; d += time.Minute {
					r.at(d)
					r.Stored(modernCall(""), partitionOf(1))
				}
				r.at(10*time.Minute - 1)
				r.Stored(modernCall(""), partitionOf(1))
				r.wantLog("0s server/discover, 0s listen")
				r.server.change(func() { r.server.listen = nil })
				r.at(10 * time.Minute)
				r.wantLog("0s server/discover, 0s listen")
				r.Stored(modernCall(""), partitionOf(1))
				r.wantLog("0s server/discover, 0s listen, 10m0s server/discover, 10m0s listen")
				r.wantOpen(1)
			})
		})
	}
}

func TestARefusedDiscoverIsNotRepeated(t *testing.T) {
	server := &server{capabilities: `[]`}
	listenerTest(t, server, func(r *rig) {
		for d := time.Duration(0); d < 10*time.Minute; d += time.Minute {
			r.at(d)
			r.Stored(modernCall("u"), partitionOf(1))
		}
		r.at(10*time.Minute - 1)
		r.Stored(modernCall("u"), partitionOf(1))
		r.wantLog("0s server/discover")
		server.change(func() { server.capabilities = "" })
		r.at(10 * time.Minute)
		r.Stored(modernCall("u"), partitionOf(1))
		r.wantOpen(1)
		if log := server.log(); !strings.HasPrefix(log, "0s server/discover, 10m0s server/discover, ") {
			t.Errorf("asked was %s", log)
		}
	})
}

// A server that refuses a listen for resources is asked for lists alone; one that refuses to have an open one replaced
// keeps the open one.
func TestRefusedURIs(t *testing.T) {
	listen := func(s *fakeStream) (*mcp.Result, error) {
		if strings.Contains(string(s.call.Body), "resourceSubscriptions") {
			return jsonAnswer(400, ""), nil
		}
		return s.open(), nil
	}
	server := newServer(listen)
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall("u"), partitionOf(1))
		r.wantOpen(1)
		r.Stored(modernCall("v"), partitionOf(1))
		r.at(time.Minute)
		r.wantLog("0s server/discover, 0s listen, 0s listen")
		if uris := urisOf(t, server.last(t, "listen").call); uris != nil {
			t.Errorf("subscribed to is %q", uris)
		}
	})
	server = newServer(listen)
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall(""), partitionOf(1))
		r.wantOpen(1)
		first := server.last(t, "listen")
		for i := range 9 {
			r.at(time.Duration(i) * time.Minute)
			r.Stored(modernCall(fmt.Sprint("u", i)), partitionOf(1))
		}
		r.wantLog("0s server/discover, 0s listen, 5s listen")
		r.wantOpen(1)
		if server.last(t, "listen") != first {
			t.Error("the open stream was given up")
		}
		server.change(func() { server.listen = nil })
		r.at(10*time.Minute + 5*time.Second)
		if uris := urisOf(t, server.last(t, "listen").call); len(uris) != 9 {
			t.Errorf("10 min later subscribed to is %q", uris)
		}
		r.wantOpen(1)
	})
}

// A refusal is remembered longer than the partition has requests, and whatever becomes of its credential.
func TestARefusalOutlivesThePartition(t *testing.T) {
	server := &server{listen: func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(403, ""), nil }}
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall(""), partitionOf(1))
		r.at(7 * time.Minute)
		r.Refused(partitionOf(1)) // as the agent's credential is, and back
		r.Stored(modernCall(""), partitionOf(1))
		r.at(10*time.Minute - 1)
		r.Stored(modernCall(""), partitionOf(1))
		r.wantLog("0s server/discover, 0s listen")
		r.Stored(modernCall(""), partitionOf(2)) // another's
		r.wantLog("0s server/discover, 0s listen, 9m59.999999999s server/discover, 9m59.999999999s listen")
	})
}

// What a request comes to that this side gave up is no refusal.
func TestAnEndIsNoRefusal(t *testing.T) {
	server := &server{listen: func(s *fakeStream) (*mcp.Result, error) {
		<-s.ctx.Done()
		return jsonAnswer(404, ""), nil
	}}
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall(""), partitionOf(1))
		synctest.Wait()
		r.Refused(partitionOf(1))
		r.at(time.Minute)
		r.Stored(modernCall(""), partitionOf(1))
		r.wantLog("0s server/discover, 0s listen, 1m0s server/discover, 1m0s listen")
	})
}

// Refused partitions keep their places until the refusal is over, then they make room.
func TestRoomAfterRefusals(t *testing.T) {
	server := &server{capabilities: `[]`}
	listenerTest(t, server, func(r *rig) {
		for i := range 40 {
			r.Stored(modernCall(""), partitionOf(i))
		}
		r.at(10*time.Minute - 1)
		r.Stored(modernCall(""), partitionOf(100))
		synctest.Wait()
		if n := len(server.times("server/discover")); n != 32 {
			t.Errorf("discover was asked %d times, want 32", n)
		}
		if n := r.Subscriptions(); n != 0 {
			t.Errorf("%d subscriptions, all of which were refused", n)
		}
		server.change(func() { server.capabilities = "" })
		r.at(10 * time.Minute)
		r.Stored(modernCall(""), partitionOf(100))
		r.wantOpen(1)
		if n := r.partitions(); n != 1 {
			t.Errorf("%d partitions are known, want 1", n)
		}
	})
}

func TestASlowDiscover(t *testing.T) {
	server := &server{discover: func(ctx context.Context) (*mcp.Result, error) {
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes}
	}}
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall(""), partitionOf(1))
		r.at(time.Minute)
		server.change(func() { server.discover = nil })
		r.wantOpen(0)
		r.at(time.Minute + 2*time.Second)
		r.wantOpen(1)
	})
}
