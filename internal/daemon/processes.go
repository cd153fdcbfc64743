package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/session/remembered"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// The files of stdio sessions, and of what is remembered of their servers, in the state directory.
const (
	sessionsFile = "stdio-sessions.json"
	memoryFile   = "stdio-remembered.json"
)

// processes is what the stdio servers of a daemon have in common. No process runs in it before the first start.
type processes struct {
	guard        *process.Guard
	environments *Environments
	starts       *process.Starts
	total        stdio.Total
	sessions     *streamable.Store
	memory       *remembered.Store
	metrics      *processMetrics
	cpu          *cpuWatch
	packages     *npx.Resolver
	uses         sync.WaitGroup // of packages, by processes
}

// newProcesses makes them, for the first configuration that has such a server. Without a state directory sessions end with the
// daemon.
func (d *daemon) newProcesses(cfg *config.Config) *processes {
	o := process.Options{Log: d.log}
	if slices.ContainsFunc(cfg.Upstreams, isLimited) {
		var err error
		if o.Cgroup, err = process.OwnCgroup(); err != nil {
			d.log.Info("the daemon has no cgroup of its own: systemd-run is to make those for processes.memory and processes.tasks", "reason", err)
			o.Scopes = true
		}
	}
	p := &processes{guard: process.NewGuard(o), total: stdio.Total{Max: cfg.Processes.Total}, metrics: d.processMetrics}
	p.environments = NewEnvironments(EnvironmentOptions{Path: cfg.Processes.Path, LoginLimit: d.loginLimit, Log: d.log})
	p.packages = npx.New(npx.Options{Dir: PackagesDirectory(d.cacheDir), Start: p.guard.Start, Log: d.log})
	p.packages.Clean()
	p.starts = process.NewStarts(p.guard, cfg.Processes.StartConcurrency)
	file := func(name string) string {
		if dir := d.state.Dir(); dir != "" {
			return filepath.Join(dir, name)
		}
		return ""
	}
	p.sessions = streamable.NewStore(streamable.StoreOptions{Path: file(sessionsFile), Waits: d.state.Waits(), Log: d.log})
	p.memory = remembered.NewStore(remembered.StoreOptions{Path: file(memoryFile), Waits: d.state.Waits(), Log: d.log})
	p.cpu = newCPUWatch(d.log, func() []cpuSample { return d.cpuSamples(p.guard) }, d.shortestIdleTimeout)
	return p
}

func isStdio(u config.Upstream) bool { return u.Stdio != nil }

func isLimited(u config.Upstream) bool {
	return isStdio(u) && (u.Stdio.Processes.Memory > 0 || u.Stdio.Processes.Tasks > 0)
}

// drainSessions writes the sessions of stdio servers, and what is remembered of these, while nobody can have reached another daemon yet, which may read them at once.
func (d *daemon) drainSessions() {
	if p := d.processes; p != nil {
		p.sessions.Drain()
		p.memory.Drain()
	}
}

// closeSessions writes the same a last time. That is before their processes end: a service manager may not wait.
func (d *daemon) closeSessions() {
	if p := d.processes; p != nil {
		p.sessions.Close()
		p.memory.Close()
	}
}

// closeProcesses ends the guard, and whatever process of a server is left. The pipelines have ended theirs, or had no time for it.
func (d *daemon) closeProcesses() {
	if p := d.processes; p != nil {
		p.cpu.close()
		p.environments.Close()
		p.packages.Stop()
		now, cancel := context.WithCancel(context.Background())
		cancel()
		p.guard.Close(now)
		p.awaitPackages()
	}
}

// awaitPackages waits for what ends with the last process. One that the kernel holds may never end.
func (p *processes) awaitPackages() {
	ended := make(chan struct{})
	go func() {
		p.packages.Wait()
		p.uses.Wait()
		close(ended)
	}()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// usage returns what the processes of stdio servers take, nil where that is not wanted: it takes milliseconds for each.
func (d *daemon) usage(wanted bool) map[*process.Process]process.Usage {
	if !wanted {
		return nil
	}
	for _, p := range d.routed() {
		if p.stdio != nil {
			return p.stdio.all.guard.Usage(true)
		}
	}
	return map[*process.Process]process.Usage{}
}

// readyStatus says what a server has ready ahead of its sessions.
func (s *stdioServer) readyStatus() *api.Ready {
	st := s.pool.Status()
	return &api.Ready{Spare: st.Spare, Used: st.Used, Remembered: s.front.Recalled(), WithoutSpares: st.WithoutSpares}
}

// processStatus says what the processes of a server do. What they take is looked for only where use has it.
func (s *stdioServer) processStatus(use map[*process.Process]process.Usage, now time.Time) []api.Process {
	all := []api.Process{}
	for _, u := range s.pool.Uses() {
		one := api.Process{State: string(u.State), Shared: u.Shared || !u.Session, Sessions: u.Holders}
		if p, ok := u.Process.(running); ok {
			taken := use[p.Process]
			one.PID, one.AgeMs = p.PID(), now.Sub(p.Started()).Milliseconds()
			one.Processes, one.RSS, one.PSS, one.CPUMs = taken.Processes, taken.RSS, taken.PSS, taken.CPU.Milliseconds()
			one.BusyMs = s.all.cpu.busy(p.Process).Milliseconds()
			if lines := p.Stderr(); len(lines) > 0 {
				one.Stderr = lines[len(lines)-1]
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b api.Process) int { return int(b.AgeMs - a.AgeMs) })
	return all
}
