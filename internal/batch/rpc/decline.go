package rpc

import (
	"context"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// declineTime bounds the answer to a request of the server's.
const declineTime = 15 * time.Second

// decline answers a request of the server's on the stream of an element: there is nobody to answer it (JSON-RPC 2.0,
// -32601), and the call may do without. Only a ping is answered well. The failure is the element's, which would wait for a
// server that waits for the answer.
func (t *reading) decline(ctx context.Context, ev *mcp.Event) *mcp.Failure {
	what := `,"error":{"code":-32601,"message":"nobody can be asked in an array of calls"}`
	if ev.Message.Method == mcp.MethodPing {
		what = `,"result":{}`
	}
	c := t.r.ownCall(t.c.Version, t.c.Header, `"id":`+string(ev.Message.ID.Of(ev.Data))+what)
	c.Lane = mcp.LaneResponse
	own, cancel := context.WithTimeout(ctx, declineTime)
	defer cancel()
	res, err := t.r.a.opts.Next.Call(own, c)
	if err == nil {
		_ = res.Close() // nothing in it is of any use
		if res.Status < http.StatusMultipleChoices {
			return nil
		}
	}
	if ctx.Err() != nil {
		return mcp.Canceled(ctx, mcp.SentYes)
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Cause: err,
		Message: "the server asked something during the call and could not be answered",
	}
}
