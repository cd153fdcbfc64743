package rpc

import (
	"context"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// declineTime bounds the answer to a request of the server's.
const declineTime = 15 * time.Second

// decline answers a request of the server's on the stream of an element: there is nobody whom it could be put to
// (JSON-RPC 2.0, -32601), and the call may do without. Only a ping is answered well. The failure is the element's, which
// would wait for a server that waits for the answer.
func (t *taker) decline(ctx context.Context, ev *mcp.Event) *mcp.Failure {
	own, cancel := context.WithTimeout(ctx, declineTime)
	defer cancel()
	res, err := t.r.a.opts.Next.Call(own, t.answerTo(ev))
	status := 0
	if err == nil {
		status = res.Status
		_ = res.Close() // nothing in it is of any use
	}
	switch {
	case ctx.Err() != nil:
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: ctx.Err()}
	case err == nil && status < http.StatusMultipleChoices:
		return nil
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Cause: err,
		Message: "the server asked something during the call and could not be answered",
	}
}

// answerTo makes the answer, which goes where the element went.
func (t *taker) answerTo(ev *mcp.Event) *mcp.Call {
	said := `,"error":{"code":-32601,"message":"nobody can be asked in an array of calls"}}`
	if ev.Message.Method == mcp.MethodPing {
		said = `,"result":{}}`
	}
	body := append([]byte(`{"jsonrpc":"2.0","id":`), ev.Message.ID.Of(ev.Data)...)
	body = append(body, said...)
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil {
		panic("rpc: an answer of the daemon's own is none (this is a bug): " + err.Error())
	}
	c := t.r.newCall(t.c.Era, t.c.Version, body, &m, t.c.Header)
	c.Lane = mcp.LaneResponse
	return c
}
