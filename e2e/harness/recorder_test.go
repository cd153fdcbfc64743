// Recorder sees every message and every exchange.

package harness

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestRecorder(t *testing.T) {
	var got []string
	body := "event: endpoint\ndata: /x\n\nid: 1\ndata: \n\n: comment\n\nevent: message\ndata: {\"method\":\"a\"}\n\ndata: {\"id\":2}\n\n"
	b := &tee{ReadCloser: io.NopCloser(iotest.OneByteReader(strings.NewReader(body))), sse: true, message: func(m []byte) { got = append(got, string(m)) }}
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	if want := []string{`{"method":"a"}`, `{"id":2}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r := NewRecorder(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Expect(ctx, "none"); err == nil {
		t.Error("expect found a message that was not there")
	}
}
