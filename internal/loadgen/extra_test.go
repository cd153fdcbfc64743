package loadgen_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// TestExtraTools are reached by who knows the path, and by nobody else; what they say is the answer, an error of theirs is the tool's.
func TestExtraTools(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hangs := make(chan struct{})
	s := fastserver.NewWith(fastserver.Extra{Path: "/secret", Names: []string{"works", "fails", "hangs"}, Run: func(ctx context.Context, name string) (string, error) {
		switch name {
		case "fails":
			return "", errors.New(`a "fault"`)
		case "hangs":
			close(hangs)
			<-ctx.Done()
		}
		return "done: \"x\"\n", nil
	}})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(ln) // its error is the listener's end
	}()
	for _, era := range []mcp.Era{mcp.EraModern, mcp.EraLegacy} {
		at := func(path string) *loadgen.Clients { return clientsOf(t, targetAt(t, ln.Addr().String(), path, era)) }
		if result, err := at("/secret").Ask(t.Context(), loadgen.ToolCall("works", "{}")); err != nil || string(result) != fastserver.ExtraResult("done: \"x\"\n") {
			t.Errorf("%v: %s, %v", era, result, err)
		}
		if list, err := at("/secret").Ask(t.Context(), loadgen.List()); err != nil || !strings.Contains(string(list), `"works"`) {
			t.Errorf("%v: %s, %v", era, list, err)
		}
		_, err = at("/secret").Ask(t.Context(), loadgen.ToolCall("fails", "{}"))
		if err == nil || !strings.Contains(err.Error(), loadgen.FaultTool) || !strings.Contains(err.Error(), "fault") {
			t.Errorf("%v: %v", era, err)
		}
		for _, path := range []string{"/mcp", "/", "/secret2", fastserver.Sessions} {
			if _, err := at(path).Ask(t.Context(), loadgen.ToolCall("works", "{}")); err == nil || !strings.Contains(err.Error(), "-32601") {
				t.Errorf("%v, %s: %v", era, path, err)
			}
			if list, err := at(path).Ask(t.Context(), loadgen.List()); err != nil || strings.Contains(string(list), "works") {
				t.Errorf("%v, %s: %s, %v", era, path, list, err)
			}
		}
	}
	hung := make(chan error, 1)
	p := clientsOf(t, targetAt(t, ln.Addr().String(), "/secret", mcp.EraModern))
	go func() {
		_, err := p.Ask(context.Background(), loadgen.ToolCall("hangs", "{}"))
		hung <- err
	}()
	<-hangs
	_ = ln.Close()
	<-served
	s.Close() // ends what a tool does
	if err := <-hung; err == nil {
		t.Error("a call of a server that was closed is answered")
	}
}
