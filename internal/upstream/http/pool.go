package http

import (
	"context"
	"io"
	"net/url"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// warmStreams is how many GET streams may be on connections among those for calls. More have some of their own.
const warmStreams = 256

// Connections bounds the connections in use, and is where a call waits for one. See internal/admission.
type Connections interface {
	// Enter takes a connection for a call or a document and returns its kind, 0 for one of those for calls, and how long it
	// waited. Any other kind is beside those.
	Enter(context.Context, mcp.Lane) (kind int, waited time.Duration, f *mcp.Failure)
	// Leave gives one of the kind back.
	Leave(kind int)
}

// client sends the requests of exchanges. It has connections for calls, as many as Pool allows, and others for what lasts
// (exchange.long), and tells the exchange how far a request is: connecting, connected, given, answering.
type client interface {
	// prepare is called once, before all else.
	prepare(*exchange)
	// send sends the request to the target and returns the head of the answer; the body is the exchange's to close. It is
	// called again where a redirect is followed.
	send(*exchange, *url.URL) (head, error)
	// connections returns how many are open, and how many of them nobody uses, where so many exchanges are active.
	connections(active int) (open, idle int)
	// widen lets there be so many more connections for calls.
	widen(by int)
	// close closes the connections that nobody uses, now and as they are let go.
	close()
}

// head is the head of an answer, without the fields that end at this hop, and its body.
type head struct {
	status int
	header header.List
	length int64 // of the body; -1: it does not say
	body   io.ReadCloser
}

// pool is what one upstream's connections are counted by.
type pool struct {
	client client
	active atomic.Int64 // calls and streams that hold one
	warm   atomic.Int64 // GET streams among them that are on connections for calls
}

// enterWarm lets a GET stream have a connection for calls, if there are not too many there. It takes none from the calls: they
// may have one more meanwhile.
func (p *pool) enterWarm() bool {
	if p.warm.Add(1) > warmStreams {
		p.warm.Add(-1)
		return false
	}
	p.client.widen(1)
	return true
}

func (p *pool) leaveWarm() {
	p.client.widen(-1)
	p.warm.Add(-1)
}
