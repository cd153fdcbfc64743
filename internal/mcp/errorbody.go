package mcp

import "encoding/json"

// errorData is the data member of the daemon's errors: what an agent, or the person behind it, can act on.
type errorData struct {
	Source       string `json:"source"`
	Upstream     string `json:"upstream"`
	Reason       string `json:"reason"`
	Sent         string `json:"sent"`
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"`
	RequestID    string `json:"requestId"`
}

// rpcError is the error member of the daemon's errors.
type rpcError struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Data    errorData `json:"data"`
}

// AppendError appends the failure as a JSON-RPC error to dst, with the id's own bytes. A nil id leaves the member out
// (2025-11-25 and later: an id that could not be read is omitted). request is the request's id in the log.
func AppendError(dst []byte, f *Failure, id []byte, upstream, request string) []byte {
	body, err := json.Marshal(rpcError{f.Code, f.Message, errorData{
		Source: "fluentd-perf", Upstream: upstream, Reason: string(f.Reason), Sent: string(f.Sent),
		RetryAfterMs: f.RetryAfter.Milliseconds(), RequestID: request,
	}})
	if err != nil {
		panic("mcp: an error could not be encoded (this is a bug): " + err.Error())
	}
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if id != nil {
		dst = append(append(append(dst, `"id":`...), id...), ',')
	}
	dst = append(append(dst, `"error":`...), body...)
	return append(dst, '}')
}
