package stdio

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/e2e/harness"
)

// maxGuard is what the guard of stdio servers may take, in KiB of PSS.
const maxGuard = 6 << 10

// TestGuardIsSmall starts the program as the daemon starts its guard and measures it: what every package of the program sets
// up at start must not stay. It ends with its socketpair.
func TestGuardIsSmall(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "daemon"), os.NewFile(uintptr(pair[1]), "guard")
	cmd := &exec.Cmd{
		Path: harness.PlainBinary(t), Args: []string{"fluentd-perf-guard", "mark", "2s", "2s", "500ms"},
		Env: []string{"GOGC=10", "GOMAXPROCS=2"}, ExtraFiles: []*os.File{theirs},
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && (size == 0 || size > maxGuard); {
		size = proportionalSize(cmd.Process.Pid)
	}
	t.Logf("PSS %d KiB", size)
	if size == 0 || size > maxGuard {
		t.Errorf("the guard takes %d KiB, want at most %d", size, maxGuard)
	}
	ours.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("its socketpair is closed and it has nothing to end: %v", err)
	}
}

// TestGuardOfManyServers measures the guard of a daemon while 16 servers start at once: its size, that it holds no end of their pipes,
// and how long the starts took.
func TestGuardOfManyServers(t *testing.T) {
	t.Parallel()
	const servers = 16
	script := harness.WriteFile(t, "lister.sh", lister)
	d := harness.Start(t, harness.Config{
		Upstreams: map[string]string{"s": fmt.Sprintf("{command: [sh, %q]}", script)}, Plain: true,
		Top: fmt.Sprintf("drain: 1s\nprocesses: {start_concurrency: %d}", servers),
	})
	begin(t, d.URL(""), "s").works(false)
	guard := guardOf(t, d)
	before := descriptorsOf(t, guard) // its own, and what whoever started the test left open
	sampled := samplePeak(guard)
	var all sync.WaitGroup
	for range servers - 1 {
		agent := harness.NewAgent(t, d.URL(""))
		all.Go(func() {
			r, err := agent.Send(http.MethodPost, "/mcp/s", harness.InitializeRequest)
			if err == nil {
				r, err = agent.Send(http.MethodPost, "/mcp/s", toolCall("pid"), "Mcp-Session-Id: "+r.Header.Get("Mcp-Session-Id"))
			}
			if err != nil || !strings.Contains(r.Body, `"pid":`) {
				t.Errorf("%v %s", err, r.Body)
			}
		})
	}
	all.Wait()
	if n := len(childrenOf(guard)); n != servers {
		t.Errorf("the guard has %d children", n)
	}
	for _, fd := range descriptorsOf(t, guard) {
		if strings.HasPrefix(fd, "pipe:") && !slices.Contains(before, fd) {
			t.Errorf("the guard holds %s", fd)
		}
	}
	starts, size := d.Scrape(), sampled()
	t.Logf("PSS %d KiB at most while %d servers started in %.1f ms each", size, servers,
		1000*starts.Sum("fluentd_perf_process_start_seconds_sum")/starts.Sum("fluentd_perf_process_start_seconds_count"))
	if size == 0 || size > maxGuard {
		t.Errorf("the guard takes %d KiB, want at most %d", size, maxGuard)
	}
}

// samplePeak measures a guard until the function that it returns is called, which returns the most that was seen in KiB.
func samplePeak(guard int) func() int {
	stop, peak := make(chan struct{}), make(chan int)
	go func() {
		most := 0
		for {
			most = max(most, proportionalSize(guard))
			select {
			case <-stop:
				peak <- most
				return
			default:
			}
		}
	}()
	return func() int {
		close(stop)
		return <-peak
	}
}

// TestGuardBeginsEarly: the guard begins before the large packages of the program set themselves up, which would take it megabytes and
// its first start milliseconds.
func TestGuardBeginsEarly(t *testing.T) {
	var said strings.Builder
	cmd := &exec.Cmd{Path: harness.PlainBinary(t), Args: []string{"fluentd-perf-guard"}, Env: []string{"GODEBUG=inittrace=1"}, Stderr: &said}
	if err := cmd.Run(); err == nil || !strings.HasSuffix(said.String(), "\nguard: it is started by the daemon only\n") {
		t.Fatalf("%v: %s", err, said.String())
	}
	if !strings.Contains(said.String(), "init os @") {
		t.Errorf("the runtime does not say what has been set up:\n%s", said.String())
	}
	for _, late := range []string{"net", "log/slog", "strings", "golang.org/x/sys/unix", "github.com/prometheus/common/model", "modernc.org/memory"} {
		if strings.Contains(said.String(), "init "+late+" @") {
			t.Errorf("%s was set up before:\n%s", late, said.String())
		}
	}
}

// proportionalSize returns a process's PSS in KiB, 0 where it is none of ours yet.
func proportionalSize(pid int) (size int) {
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if string(name) != "fluentd-guard\n" {
		return 0
	}
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			size, _ = strconv.Atoi(fields[1])
		}
	}
	return size
}
