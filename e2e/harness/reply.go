package harness

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Reply is a whole answer.
type Reply struct {
	Status int
	Header http.Header
	Body   string
	Took   time.Duration // from the request to the last byte
}

// RPCAnswer is a JSON-RPC answer.
type RPCAnswer struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *RPCError
}

// RPCError is the error of a JSON-RPC answer. Only the daemon's own errors have FailureData.
type RPCError struct {
	Code    int
	Message string
	Data    *FailureData
}

// FailureData is the data of the daemon's own errors (docs/resilience.md).
type FailureData struct {
	Source, Upstream, Reason, Sent, RequestID string
	RetryAfterMs                              int64
}

// RPC returns the answer in a JSON body, or in the last event of a stream.
func (r Reply) RPC(t *testing.T) RPCAnswer {
	t.Helper()
	text := r.Body
	if strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
		events := readEvents(t, strings.NewReader(r.Body))
		if len(events) == 0 {
			t.Fatalf("a stream without an event: %q", r.Body)
		}
		text = events[len(events)-1].Data
	}
	var a RPCAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%d, not a JSON-RPC answer: %q (%v)", r.Status, r.Body, err)
	}
	return a
}

// BackgroundReply is what became of a call made in the background.
type BackgroundReply struct {
	Reply
	Err error
}

// Answers are those of an array.
func (r Reply) Answers(t *testing.T) []RPCAnswer {
	t.Helper()
	var all []RPCAnswer
	if err := json.Unmarshal([]byte(r.Body), &all); err != nil || r.Status != http.StatusOK {
		t.Fatalf("%d, not an array of answers: %v\n%s", r.Status, err, Tail(r.Body))
	}
	return all
}
