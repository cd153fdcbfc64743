// For a long time, with new agents all the time and everything failing, the daemon holds no more than after a while.

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
	"fluentd-perf/internal/monitor"
)

const (
	soakAgents = 24          // of servers over HTTP, at once
	soakFolder = "../../out" // git-ignored: what a soak leaves
	soakPoints = 200         // samples of a whole soak

	// subscribedFor is how long the cache subscribes to the changes of a server for a credential after its last request (five minutes:
	// internal/cache/listener), with some seconds for what ends then.
	subscribedFor = 5*time.Minute + 15*time.Second
)

// BenchmarkSoak has agents of both eras work with servers over HTTP and stdio that are killed, hung and slowed, and with tiers of the cache
// that are too. No agent stays for long: each is followed by one with a credential, connections and sessions of its own, and some leave
// without a word. `monitor` records the daemon meanwhile. Its memory, goroutines and descriptors must not have grown from the second fifth
// of the time to the last one, but for those of the cache's subscriptions, of which there are more the more credentials there were in the
// last minutes; what agents were told must be right as in TestChaos, and all that was held for them must be gone in the end.
//
// SOAK_SECONDS is how long it lasts (1200 by default), SOAK_SEED what is done to whom. It leaves soak.json, a recording for
// `monitor --replay`, and soak.svg in out. `make soak` runs it.
func BenchmarkSoak(b *testing.B) {
	if b.N > 1 {
		b.Skip("once is enough")
	}
	seed := uint64(number(b, "SOAK_SEED", int(time.Now().UnixNano()&0xffff_ffff)))
	length := time.Duration(number(b, "SOAK_SECONDS", 1200)) * time.Second
	b.Logf("SOAK_SEED=%d SOAK_SECONDS=%.0f", seed, length.Seconds())
	run, at := newChaosRun(b, seed), harness.NewFolders(b)
	run.memory = "2MiB" // which is full within the first fifth
	d := run.daemon(b, harness.Config{Upstreams: commands(b)}.In(at))
	run.origin = d.URL("")
	run.visitAll(b)
	before := run.awaitIdle(b, d)

	recording := startRecording(b, at, length)
	r := rand.New(rand.NewPCG(seed, 0))
	s := run.storm(r, commandHarms(b, r, at.Socket())...)
	run.soak(b, seed, func() {
		s.run(length)
		recording.Stop(b, syscall.SIGINT) // while all are at work: its last samples are of that, too
	})
	b.Logf("harm done: %v", s.done)
	made := recording.read(b)
	all := soakCurves(made.Samples)
	title := fmt.Sprintf("%v of agents and faults: %d requests, %d failed, %d times harm", length, made.Summary.All.Requests, made.Summary.All.Failed, sum(s.done))
	recording.draw(b, title, all)
	for i := range all {
		b.Log(all[i].String())
		if err := all[i].flat(); err != nil {
			b.Error(err)
		}
	}
	if err := subscribed(made.Samples); err != nil {
		b.Error(err)
	}
	if made.Summary.Restarts > 0 || len(made.Gaps) > 0 {
		b.Errorf("%d restarts, no answer: %+v", made.Summary.Restarts, made.Gaps)
	}

	run.visitAll(b)
	run.heal(b, d)
	b.Logf("waiting for %v: so long the daemon subscribes for a credential that makes no requests any more", subscribedFor)
	<-time.After(subscribedFor)
	if left := series(d.Scrape(), "fluentd_perf_cache_subscriptions"); len(left) > 0 {
		b.Errorf("after %v without a request there are subscriptions: %v", subscribedFor, left)
	}
	run.holdsNoMore(b, d, before)
	journals := map[string]string{}
	for _, u := range run.upstreams {
		for _, server := range u.servers {
			server.End()
		}
		journals[u.name] = u.did(b)
	}
	run.ledger.judge(journals)
	run.ledger.report(b)
	run.happened(b)
}

func sum(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// soak has agents come and go while something happens. Two of a time share a credential.
func (run *chaosRun) soak(b *testing.B, seed uint64, while func()) {
	ctx, leave := context.WithCancel(b.Context())
	var alive sync.WaitGroup
	defer alive.Wait()
	defer leave()
	succeed := func(place int, live func(ctx context.Context, a *chaosAgent)) {
		alive.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(place)+1))
			for n := 0; ctx.Err() == nil; n++ {
				a := run.agent(fmt.Sprintf("agent-%d-%d", place, n), fmt.Sprintf("who-%d-%d", place/2, n), r)
				life, end := context.WithTimeout(ctx, time.Duration(10+r.IntN(20))*time.Second)
				live(life, a)
				end()
				a.http.CloseIdleConnections()
			}
		})
	}
	for i := range soakAgents {
		succeed(i, func(ctx context.Context, a *chaosAgent) { a.live(ctx) })
	}
	for i := range commandAgents {
		succeed(soakAgents+i, func(ctx context.Context, a *chaosAgent) { a.useCommands(ctx, i) })
	}
	while()
}

// soakRecording is `monitor` that records.
type soakRecording struct {
	*harness.Process
	file string
}

// startRecording starts it, for a storm of that length. It is to be stopped: a storm on a slow machine may take longer.
func startRecording(b *testing.B, at harness.Folders, length time.Duration) *soakRecording {
	b.Helper()
	if err := os.MkdirAll(soakFolder, 0o755); err != nil {
		b.Fatal(err)
	}
	r := &soakRecording{file: filepath.Join(soakFolder, "soak.json")}
	r.Process = harness.StartProcess(b, nil, harness.DaemonBinary, "monitor", "--socket", at.Socket(), "--output", r.file,
		"--duration", (2 * length).String(), "--interval", max(length/soakPoints, 100*time.Millisecond).String())
	return r
}

// read reads what it has written.
func (r *soakRecording) read(b *testing.B) *monitor.Recording {
	b.Helper()
	file, err := os.Open(r.file)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	made, err := monitor.ReadRecording(file)
	if err != nil {
		b.Fatalf("%s: %v\n%s", r.file, err, harness.Tail(r.Out.String()))
	}
	return made
}

// draw writes the plot beside the recording.
func (r *soakRecording) draw(b *testing.B, title string, all []curve) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(soakFolder, "soak.svg"), []byte(plot(title, all)), 0o644); err != nil {
		b.Error(err)
	}
}

// soakCurves are what is plotted of a recording: what must be flat, and what the daemon did. A subscription of the cache has a goroutine, and
// a stream that is open for it another one and a connection.
func soakCurves(samples []api.Sample) []curve {
	memory := curve{name: "memory", unit: "MiB", held: true, slack: 6}
	goroutines := curve{name: "goroutines, without those of subscriptions", held: true, slack: 30}
	descriptors := curve{name: "descriptors, without those of subscriptions", held: true, slack: 30}
	rate, processes := curve{name: "requests", unit: "/s"}, curve{name: "processes of commands"}
	subscriptions := curve{name: "subscriptions of the cache"}
	for i := range samples {
		s := &samples[i]
		at := time.Duration(s.UpMs-samples[0].UpMs) * time.Millisecond
		n, credentials, streams := 0, 0, 0
		for _, u := range s.Upstreams {
			n, credentials, streams = n+u.ProcessesNow, credentials+u.Subscriptions, streams+u.Listening
		}
		memory.add(at, float64(s.Memory)/(1<<20))
		goroutines.add(at, float64(s.Goroutines-credentials-streams))
		if s.Descriptors > 0 {
			descriptors.add(at, float64(s.Descriptors-streams))
		}
		subscriptions.add(at, float64(credentials))
		processes.add(at, float64(n))
		if i > 0 && s.UpMs > samples[i-1].UpMs {
			rate.add(at, float64(requestsOf(s)-requestsOf(&samples[i-1]))*1000/float64(s.UpMs-samples[i-1].UpMs))
		}
	}
	return []curve{memory, goroutines, descriptors, subscriptions, rate, processes}
}

// maxSubscriptions is for how many credentials the cache subscribes to the changes of one upstream (internal/cache/listener).
const maxSubscriptions = 32

// subscribed holds that there were subscriptions and streams of the cache's while a soak was recorded, and not too many for an upstream.
func subscribed(samples []api.Sample) error {
	most, listening := 0, 0
	for i := range samples {
		for _, u := range samples[i].Upstreams {
			if most, listening = max(most, u.Subscriptions), max(listening, u.Listening); u.Subscriptions > maxSubscriptions {
				return fmt.Errorf("%s has %d subscriptions, more than %d", u.Upstream, u.Subscriptions, maxSubscriptions)
			}
		}
	}
	if most == 0 || listening == 0 {
		return fmt.Errorf("the daemon had at most %d subscriptions and %d streams for them: nothing is known of what they cost", most, listening)
	}
	return nil
}

func requestsOf(s *api.Sample) (n int64) {
	for _, u := range s.Upstreams {
		for _, count := range u.Requests {
			n += int64(count)
		}
	}
	return n
}

// commandAgents is how many agents use servers that are commands at once.
const commandAgents = 8

// commandKey is of the seals of commands.
const commandKey = "the key of commands"

// commands are upstreams that are commands: a process for each session, and one for all.
func commands(b *testing.B) map[string]string {
	b.Helper()
	binary, err := harness.BuildPeer()
	if err != nil {
		b.Fatal(err)
	}
	all := map[string]string{}
	for _, mode := range []string{"per-agent", "shared"} {
		all["command-"+mode] = fmt.Sprintf(`{command: [%s, command, %s], sessions: {mode: %s}, processes: {max: 12, warm: 0, idle_timeout: 5s}, timeouts: {first_byte: 2s, call: 4s}}`,
			strconv.Quote(binary), strconv.Quote(commandKey), mode)
	}
	return all
}
