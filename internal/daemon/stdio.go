package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
	"fluentd-perf/internal/session/multiplex"
	"fluentd-perf/internal/session/remembered"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// stdioServer is a server that is a command: its processes, and the sessions in front of them.
type stdioServer struct {
	*stdio.Upstream
	all      *processes
	pool     *stdio.Pool
	shared   *multiplex.Multiplexer // of the sessions; nil: each has a process of its own
	front    *streamable.Front
	spec     process.Spec
	source   string     // where its PATH comes from, for people
	npx      *npx.Entry // nil: its command is run as it is written
	identity string
	shown    string // the command for people, without secrets
	times    *startTimes
	memory   *remembered.Memory

	healed, lost atomic.Int64 // sessions
}

// newStdioServer makes one. It starts no process.
func (p *pipeline) newStdioServer() *stdioServer {
	c := &p.entry
	env := &p.environment
	s := &stdioServer{
		all: p.processes, spec: specOf(c, env.All), source: env.Source,
		identity: process.Identity(c.Stdio.Command, c.Stdio.Cwd, env.Lasting), shown: c.Stdio.String(),
	}
	s.npx = p.newNPXEntry(env)
	for _, u := range c.Stdio.AllowUsers {
		p.log.Info("another user of this machine may use a server that runs as the daemon's", "upstream", c.Name, "user", u.Name)
	}
	s.times = p.processes.metrics.newStartTimes(c.Name)
	s.pool = p.newPool(s)
	if c.Sessions.Mode == config.SessionsShared {
		s.shared = p.newMultiplexer(s)
	} else {
		s.memory = p.processes.memory.Of(remembered.Options{Identity: s.identity, OnDisk: s.onDisk, Stable: s.pool.Stable})
	}
	s.front = p.newFront(s)
	s.Upstream = stdio.New(stdio.Options{
		Pool: s.pool, Legacy: s.front, OnDisk: s.onDisk, Client: p.version, Replicas: c.Stdio.Processes.Replicas,
		FirstByte: c.Timeouts.FirstByte, Handshake: c.Timeouts.Handshake,
		Call: c.Timeouts.Call, Idle: c.Timeouts.Idle, Answered: p.answered(), Log: p.log,
	})
	return s
}

func (p *pipeline) newPool(s *stdioServer) *stdio.Pool {
	c := &p.entry
	warm := c.Stdio.Processes.Warm
	if c.Sessions.Mode == config.SessionsShared {
		warm = 0 // the one that there is, is ready
	}
	return stdio.NewPool(stdio.PoolOptions{
		Name: c.Name, Start: s.start, StartBehind: s.startBehind, OnDisk: s.onDisk, Started: s.started, Doing: s.doing,
		Initialized: s.initialized, Failed: s.startFailed, Replaced: p.replaced,
		Total: &p.processes.total, Warm: warm, Max: c.Stdio.Processes.Max, IdleTimeout: c.Stdio.Processes.IdleTimeout, QueueWait: c.Limits.QueueWait,
		Handshake: c.Timeouts.Handshake, FirstByte: c.Timeouts.FirstByte, StartTimeout: p.cfg.Processes.StartTimeout,
		LineLimit: int(p.cfg.Limits.Event), Base: p.ctx, Buffers: p.buffers, Log: p.log, Mask: s.mask,
	})
}

// mask takes the values of the entry's own variables out of what its server wrote.
func (s *stdioServer) mask(text string) string { return process.Mask(text, s.spec.Secrets) }

func (p *pipeline) newMultiplexer(s *stdioServer) *multiplex.Multiplexer {
	c := &p.entry
	return multiplex.New(multiplex.Options{
		Upstream: c.Name, Version: p.version, Replicas: c.Stdio.Processes.Replicas, Start: s.openShared, Handshake: c.Timeouts.Handshake,
		Joined: func(waited time.Duration) { s.times.ready(sharedStart, waited) }, Mask: s.mask, Base: p.ctx, Log: p.log,
	})
}

func (p *pipeline) newFront(s *stdioServer) *streamable.Front {
	c := &p.entry
	return streamable.New(streamable.Options{
		Upstream: c.Name, Open: s.open, Memory: s.memory, Eager: !c.Stdio.Processes.Lazy, Recalled: s.recalled,
		Unneeded: func() { s.times.saved(rememberedStart, 0) }, Store: p.processes.sessions, Partition: p.store.Partition, Repeatable: p.mayRepeat,
		Heal: frontHeals[c.Sessions.Heal], Base: p.ctx, FirstByte: c.Timeouts.FirstByte, Handshake: c.Timeouts.Handshake,
		Call: c.Timeouts.Call, Idle: c.Timeouts.Idle, Answered: p.answered(), Log: p.log,
		Replaced: func(what streamable.Replacement) {
			p.sessions.Healed(c.Name, string(what))
			s.replaced(what)
		},
	})
}

var frontHeals = map[config.Heal]streamable.Heal{
	config.HealOff: streamable.HealOff, config.HealReads: streamable.HealReads, config.HealAll: streamable.HealAll,
}

// answered returns what notes how long an answer of the server's took.
func (p *pipeline) answered() func(kind mcp.Group, took time.Duration) {
	times := p.store.Times(p.entry.Name)
	return func(kind mcp.Group, took time.Duration) {
		p.pools.Answered(p.entry.Name, kind, took)
		times.Observe(kind, took)
	}
}

// ServerEnvironment is what a server gets of an environment, NAME=value. A path of the operator's, processes.path, is used instead of
// its PATH; nil is none.
func ServerEnvironment(from []string, c *config.Stdio, path []string) process.Environment {
	own := make([]string, 0, len(c.Env))
	for name, value := range c.Env {
		own = append(own, name+"="+value.Value)
	}
	if path != nil {
		from = append(slices.Clone(from), "PATH="+strings.Join(path, string(filepath.ListSeparator)))
	}
	return process.NewEnvironment(from, c.Command[0], c.InheritEnv, own)
}

func specOf(c *config.Upstream, env []string) process.Spec {
	s := process.Spec{
		Name: c.Name, Command: c.Stdio.Command, Dir: c.Stdio.Cwd, Env: env,
		Memory: c.Stdio.Processes.Memory, Tasks: c.Stdio.Processes.Tasks,
	}
	for _, value := range c.Stdio.Env {
		s.Secrets = append(s.Secrets, value.Value)
	}
	return s
}

// start implements stdio.Start.
func (s *stdioServer) start(ctx context.Context) (stdio.Process, func(), error) {
	return s.startBy(ctx, s.all.starts.Start)
}

// startBehind implements stdio.Start for what nobody waits for.
func (s *stdioServer) startBehind(ctx context.Context) (stdio.Process, func(), error) {
	return s.startBy(ctx, s.all.starts.StartBehind)
}

// startBy starts a process by one of the methods of process.Starts.
func (s *stdioServer) startBy(ctx context.Context, by func(context.Context, string, process.Spec) (*process.Process, func(), error)) (stdio.Process, func(), error) {
	spec, key, use, err := s.resolved(ctx)
	if err != nil {
		return nil, nil, err
	}
	version := ""
	if use != nil {
		version = use.Package
	}
	own := &origin{resolved: use != nil, onDisk: s.onDiskWith(version)}
	p, started, err := by(ctx, key, spec)
	if err != nil && use != nil {
		use.Release()
	}
	var command *process.CommandError
	switch {
	case errors.As(err, &command):
		if len(command.Searched) > 0 {
			err = fmt.Errorf("%w (%s)", err, s.source)
		}
		return nil, nil, &stdio.CannotStart{Err: err}
	case err != nil:
		return nil, nil, err
	}
	r := running{p, own}
	if use != nil {
		s.all.uses.Go(func() { r.follow(use) })
	}
	return r, started, nil
}

// running is a process as the pool knows it.
type running struct {
	*process.Process
	*origin
}

func (r running) Stdin() io.WriteCloser { return r.Process.Stdin() }
func (r running) Stdout() io.ReadCloser { return r.Process.Stdout() }
func (r running) OnDisk() string        { return r.onDisk }
func (r running) Exit() string          { return r.Process.Exit().String() }
func (r running) Killed() bool          { return killed(r.Process.Exit()) }

// killed reports whether a process made no exit of its own: a crash is one.
func killed(e process.Exit) bool {
	return e.Lost || e.NotRun || e.Memory || e.Signal != 0 && !e.Crashed()
}

// open implements streamable.Options.Open. A lease that is none must not become a Server that is one.
func (s *stdioServer) open(ctx context.Context, initialize []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (streamable.Server, []byte, *mcp.Failure) {
	if s.shared != nil {
		own, answer, f := s.shared.Open(ctx, initialize, m, other)
		if f != nil {
			return nil, nil, f
		}
		return own, answer, nil
	}
	begun := time.Now()
	lease, answer, f := s.pool.Open(ctx, initialize, m, other)
	if f != nil {
		return nil, nil, f
	}
	if lease.WasSpare() {
		waited := time.Since(begun)
		s.times.ready(spareStart, waited)
		s.times.saved(spareStart, waited)
	}
	return lease, answer, nil
}

// openShared implements multiplex.Options.Start.
func (s *stdioServer) openShared(ctx context.Context, initialize []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (multiplex.Process, []byte, *mcp.Failure) {
	lease, answer, f := s.pool.Open(ctx, initialize, m, other)
	if f != nil {
		return nil, nil, f
	}
	return lease, answer, nil
}

// initialized takes what a process has answered to an initialize.
func (s *stdioServer) initialized(params []byte, onDisk string, answer []byte) {
	if form, ok := remembered.FormOf(params); ok && s.memory != nil {
		s.memory.Answered(form, onDisk, answer)
	}
}

// startFailed takes notice of a start that failed.
func (s *stdioServer) startFailed() {
	if s.memory != nil {
		s.memory.Failed()
	}
}

// recalled takes notice of a session without a process: it will need one soon.
func (s *stdioServer) recalled(initialize []byte, m *mcp.Message, took time.Duration) {
	s.times.ready(rememberedStart, took)
	s.pool.Use(initialize, m)
}

// replaced counts what became of a session whose process had gone.
func (s *stdioServer) replaced(what streamable.Replacement) {
	if what == streamable.ReplacementHealed {
		s.healed.Add(1)
	} else {
		s.lost.Add(1)
	}
}

func (s *stdioServer) sessionStatus() *session.Status {
	return &session.Status{Sessions: s.front.Sessions(), Healed: s.healed.Load(), GaveUp: s.lost.Load()}
}

// GivenUp implements server. Only a session's calls are given up by a message.
func (s *stdioServer) GivenUp(c *mcp.Call, least time.Duration) *mcp.Failure {
	return s.front.GivenUp(c, least)
}

// Status implements server.
func (s *stdioServer) Status() string { return s.shown }

// Identity implements server.
func (s *stdioServer) Identity() string { return s.identity }

// Close implements server.
func (s *stdioServer) Close() {
	s.front.Close()
	if s.shared != nil {
		s.shared.Close()
	}
	s.pool.Close()
}
