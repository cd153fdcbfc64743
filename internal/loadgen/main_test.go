package loadgen_test

import (
	"context"
	"net"
	"os"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(asChild); name != "" {
		children[name]()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// startServer starts the scripted server, until the test's end.
func startServer(t *testing.T) (address string, s *fastserver.Server) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = fastserver.New()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(ln) // its error is the listener's end
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-served
		s.Close()
	})
	return ln.Addr().String(), s
}

// targetAt returns a target of the scripted server.
func targetAt(t *testing.T, address, path string, era mcp.Era) *loadgen.Target {
	t.Helper()
	target, err := loadgen.NewTarget("http://"+address+path, "")
	if err != nil {
		t.Fatal(err)
	}
	return target.With(era)
}

// clientsOf returns clients that are closed at the test's end.
func clientsOf(t *testing.T, target *loadgen.Target) *loadgen.Clients {
	t.Helper()
	p := loadgen.NewClients(target)
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

// toolCall is a call of the scripted server's of which the answer is known.
func toolCall(tool string) loadgen.Kind {
	k := loadgen.ToolCall(tool, fastserver.Arguments(loadgen.KeyMark))
	k.Result = fastserver.Result(tool, loadgen.KeyMark)
	return k
}

func progressCall(tool string) loadgen.Kind {
	k := toolCall(tool)
	k.Progress = true
	return k
}

func listCall() loadgen.Kind {
	k := loadgen.List()
	k.Result = fastserver.ListResult(loadgen.TTLMark)
	return k
}

func plainCall(array int) loadgen.Kind {
	return loadgen.Kind{
		Name: "call", Method: fastserver.Small, Params: `"key":"` + loadgen.KeyMark + `"`,
		Result: fastserver.Result(fastserver.Small, loadgen.KeyMark), Array: array,
	}
}
