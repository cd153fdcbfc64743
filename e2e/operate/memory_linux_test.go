package operate

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// within is how far the sums of `status --memory` may be from what the system says, and the cost of a stream from what is said of it.
const within = 0.2

// TestMemory holds that the parts of the memory that an idle daemon names add up to what the system says of its process, also with 1,000
// sessions that have a stream each, and that what is said of a stream is what it takes, with both clients that call servers.
func TestMemory(t *testing.T) {
	for _, client := range []string{"auto", "compat"} {
		t.Run(client, func(t *testing.T) { testMemory(t, client) })
	}
}

func testMemory(t *testing.T, client string) {
	const n = 1000
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, served := fastserver.New(), make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { listener.Close(); <-served; server.Close() })
	at := harness.NewFolders(t)
	c := harness.OneUpstream("http://"+listener.Addr().String()+fastserver.Sessions, fmt.Sprintf("pool: {max_connections: %d}", n)).In(at)
	c.Plain, c.Top = true, "http: "+client
	d := harness.Start(t, c)

	idle := memoryOf(t, at)
	target, err := loadgen.NewTarget(d.URL("/mcp/s"), "")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := loadgen.OpenStreams(t.Context(), target.With(mcp.EraLegacy), n, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	full := memoryOf(t, at)
	for name, want := range map[string]int64{"streams": n, "sessions": n, "connections of agents": n} {
		if got := holder(full, name).Count; got != want {
			t.Errorf("%d %s, not %d", got, name, want)
		}
	}
	grown := part(full, api.MemoryObjects) + part(full, api.MemoryStacks) - part(idle, api.MemoryObjects) - part(idle, api.MemoryStacks)
	if said := holder(full, "streams").Bytes; !near(grown, said) {
		t.Errorf("%d streams take %d bytes each, and %d are said", n, grown/n, said/n)
	}
}

// memoryOf asks for the memory of a daemon, and compares it with what the system says.
func memoryOf(t *testing.T, at harness.Folders) *api.Memory {
	t.Helper()
	var s api.Status
	at.VerbJSON(t, &s, "status", "--memory")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, p := range s.Memory.Parts {
		sum += p.Bytes
	}
	if real := resident(t, text); !near(sum, real) {
		t.Errorf("%d bytes are in memory, and %d are said: %+v", real, sum, s.Memory)
	}
	t.Logf("%+v", s.Memory)
	return s.Memory
}

// resident returns what of a process is in memory, in bytes, as /proc/PID/smaps_rollup says it.
func resident(t *testing.T, text []byte) int64 {
	t.Helper()
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); string(fields[0]) == "Rss:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no Rss in %s", text)
	return 0
}

func near(said, real int64) bool {
	difference := float64(said - real)
	return max(difference, -difference) <= within*float64(real)
}

func part(m *api.Memory, name string) int64 {
	for _, p := range m.Parts {
		if p.Name == name {
			return p.Bytes
		}
	}
	return 0
}

func holder(m *api.Memory, name string) api.MemoryHolder {
	for _, h := range m.Holders {
		if h.Name == name {
			return h
		}
	}
	return api.MemoryHolder{}
}
