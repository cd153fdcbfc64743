package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/api"
	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/batch/window"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session"
	"fluentd-perf/internal/session/httpsse"
	upstreamhttp "fluentd-perf/internal/upstream/http"
	"fluentd-perf/internal/upstream/stdio/process"
)

// server is one of an upstream's equal servers, whatever it is: connections to a URL, or processes. It calls once and gives no
// answer of its own.
type server interface {
	mcp.Caller
	GivenUp(c *mcp.Call, least time.Duration) *mcp.Failure // see dispatch.Endpoint
	Status() string                                        // what people may see of it: where it is, without secrets
	Identity() string                                      // what makes it another server; it may hold secrets
	Close()                                                // calls have ended, or end soon
}

// shared is what the pipelines of a daemon have in common: what bounds them together, where answers are kept, and the metrics of
// each stage.
type shared struct {
	*daemon
	buffers  *mcp.BufferPool
	bound    session.Bound
	pools    *upstreamhttp.Metrics
	breakers *breaker.Metrics
	queues   *admission.Metrics
	retries  *dispatch.Metrics
	windows  *window.Metrics
	arrays   *rpc.Metrics
	sessions *session.Metrics
}

func newShared(d *daemon, buffers *mcp.BufferPool, breakers *breaker.Metrics, reg prometheus.Registerer) *shared {
	return &shared{
		daemon: d, buffers: buffers, breakers: breakers, queues: admission.NewMetrics(reg), retries: dispatch.NewMetrics(reg),
		pools: upstreamhttp.NewMetrics(reg), windows: window.NewMetrics(reg), arrays: rpc.NewMetrics(reg), sessions: session.NewMetrics(reg),
	}
}

// pipeline is one upstream: its servers and the stages before them. Nothing runs in it before its first call, but
// npm where its package is missing. It ends by close and
// disconnect, which retire calls while the daemon goes on.
type pipeline struct {
	*shared
	cfg   *config.Config
	entry config.Upstream

	ctx    context.Context // of all that the stages do on their own; ends with the daemon's, or before it with close
	cancel context.CancelCauseFunc
	users  proxy.Users // requests of agents

	opening     *opening // nil where the following were there from the start
	environment CommandEnvironment
	servers     []server     // in the order of their endpoints
	stdio       *stdioServer // the one of them that is a command; nil for others
	breakers    []*breaker.Breaker
	admission   *admission.Admission
	dispatch    *dispatch.Stage
	window      *window.Stage  // nil where no arrays go to the server
	cache       *cache.Stage   // nil where nothing is cached
	session     *session.Stage // nil where there are no sessions, or the old transport's
	array       *rpc.Arrays    // nil where no arrays are taken
	caller      mcp.Caller     // the outermost stage
}

// newPipeline makes the pipeline of an entry of the configuration.
func newPipeline(s *shared, cfg *config.Config, entry config.Upstream) *pipeline {
	p := &pipeline{shared: s, cfg: cfg, entry: entry}
	p.ctx, p.cancel = context.WithCancelCause(s.base)
	p.openWhenKnown()
	return p
}

// open makes the servers and the stages before them.
func (p *pipeline) open() {
	p.openServers()
	p.join()
}

// join makes the stages before the servers from the inside out: breakers, dispatch, arrays, the cache, sessions.
func (p *pipeline) join() {
	entry := &p.entry
	p.admission = admission.New(admission.Options{
		Upstream: entry.Name, MaxInFlight: entry.Limits.MaxInFlight, Queue: entry.Limits.Queue, QueueWait: entry.Limits.QueueWait,
		Total: p.total, Partition: p.store.Partition, Metrics: p.queues, Log: p.log,
	})
	p.dispatch = p.newDispatch()
	p.caller = p.withSessions(p.withCache(p.withWindow(p.dispatch)))
	if entry.Transport != config.TransportSSE { // there answers come on another stream than their calls: no array is taken
		p.array = p.newArrays(p.caller)
	}
}

// openServers makes the servers. Which kind they are is decided here, by what the entry has, and no stage knows it.
func (p *pipeline) openServers() {
	if p.entry.Stdio != nil {
		p.stdio = p.newStdioServer()
		p.servers = []server{p.stdio}
	}
	for _, at := range p.entry.URLs {
		p.servers = append(p.servers, p.newHTTPServer(at))
	}
}

// newHTTPServer makes a pool of connections to a URL.
func (p *pipeline) newHTTPServer(at *url.URL) server {
	c, label := &p.entry, poolLabel(p.entry.Name, &p.cfg.Cache)
	return upstreamhttp.New(upstreamhttp.Options{
		Name: c.Name, PoolLabel: label, URL: at, Compat: p.cfg.HTTP == config.HTTPCompat,
		Pool: upstreamhttp.PoolOptions{
			MaxConnections: c.Pool.MaxConnections, MaxIdle: c.Pool.MaxIdle,
			IdleTimeout: c.Pool.IdleTimeout, MaxAge: c.Pool.MaxAge,
		},
		Connections: admission.NewConnections(admission.ConnectionOptions{
			Upstream: label, Max: c.Pool.MaxConnections, Wait: c.Pool.WaitTimeout, Metrics: p.queues,
		}),
		Timeouts: upstreamhttp.Timeouts{
			Connect: c.Timeouts.Connect, Handshake: c.Timeouts.Handshake, FirstByte: c.Timeouts.FirstByte,
			Call: c.Timeouts.Call, Idle: c.Timeouts.Idle,
		},
		CheckBody: p.cfg.Limits.CheckBody, EventLimit: p.cfg.Limits.Event,
		Buffered: p.buffered, Buffers: p.buffers, Metrics: p.pools, Times: p.store.Times(c.Name), Log: p.log,
	})
}

// poolLabel is what the connections to an upstream are called in metrics: its name, unless those of a cache tier in use are called so.
// No upstream can have a colon in its name.
func poolLabel(upstream string, c *config.Cache) string {
	tiers := []string{}
	if c.Redis.URL.Value != "" {
		tiers = append(tiers, "redis")
	}
	if c.Database.Kind != config.DatabaseOff {
		tiers = append(tiers, string(c.Database.Kind)) // sqlite or postgres
	}
	if slices.Contains(tiers, upstream) {
		return "upstream:" + upstream
	}
	return upstream
}

// newDispatch puts a breaker before each server, and what chooses between them before all.
func (p *pipeline) newDispatch() *dispatch.Stage {
	endpoints := make([]dispatch.Endpoint, len(p.servers))
	for i, s := range p.servers {
		endpoints[i] = dispatch.Endpoint{Caller: s, Breaker: p.newBreaker(i), GivenUp: s.GivenUp}
	}
	c := &p.entry
	return dispatch.New(dispatch.Options{
		Upstream: c.Name, Endpoints: endpoints, Admission: p.admission, SlowCall: c.Breaker.SlowCall, Repeatable: p.mayRepeat,
		Retry:   dispatch.RetryOptions{Max: c.Retry.Max, Budget: c.Retry.Budget, Hedge: c.Retry.Hedge},
		Metrics: p.retries,
	})
}

// newBreaker makes the breaker of an endpoint, nil where there is to be none.
func (p *pipeline) newBreaker(endpoint int) dispatch.Breaker {
	c := &p.entry
	if c.Breaker.Off {
		return nil
	}
	b := breaker.NewEndpoint(breaker.EndpointOptions{
		Upstream: c.Name, Endpoint: strconv.Itoa(endpoint), Window: c.Breaker.Window, MinRequests: c.Breaker.MinRequests,
		FailureRatio: c.Breaker.FailureRatio, InARow: c.Breaker.InARow, Metrics: p.shared.breakers, Log: p.log,
	})
	p.breakers = append(p.breakers, b)
	return b
}

// withWindow has calls sent together, where the server takes arrays.
func (p *pipeline) withWindow(next mcp.Caller) mcp.Caller {
	c := &p.entry
	if c.Batch.Max == 0 {
		return next
	}
	p.window = window.New(window.Options{
		Upstream: c.Name, Next: next, Max: c.Batch.Max, Window: c.Batch.Window, Partition: p.store.Partition,
		Repeatable: p.mayRepeat, Refusal: p.dispatch.Refusal, Base: p.ctx, Buffers: p.buffers, Metrics: p.windows, Log: p.log,
	})
	return p.window
}

// withCache puts the cache before the others, but for the old transport: its answers come on another stream than their calls.
func (p *pipeline) withCache(next mcp.Caller) mcp.Caller {
	c := &p.entry
	if c.Transport == config.TransportSSE {
		return next
	}
	p.cache = p.store.Stage(cache.StageOptions{
		Name: c.Name, Identity: p.identity(), Plain: c.Protocol == config.ProtocolJSONRPC, Base: p.ctx,
		TTL: c.Cache.TTL, Tools: c.Cache.Tools, MinTTL: c.Cache.MinTTL, MaxTTL: c.Cache.MaxTTL,
		StaleIfError: c.Cache.StaleIfError, StaleAfter: c.Cache.StaleAfter, StaleWhileRevalidate: c.Cache.StaleWhileRevalidate,
		CoalesceTools: c.Coalesce.Tools, FlushOnCall: c.Cache.FlushOnCall, Listen: c.Cache.Listen, Scope: scopes[c.Cache.Scope],
		Impersonal: p.stdio != nil,
	}, next)
	return p.cache
}

var scopes = map[config.CacheScope]cache.Scope{
	config.CacheScopeAuto: cache.ScopeAuto, config.CacheScopeSession: cache.ScopeSession, config.CacheScopeCredential: cache.ScopeCredential,
}

// identity is what makes an upstream another one: its servers, in whatever order, what they speak and the headers that the
// configuration sets.
func (p *pipeline) identity() string {
	var b strings.Builder
	part := func(s string) { fmt.Fprintf(&b, "%d:%s", len(s), s) }
	servers := make([]string, len(p.servers))
	for i, s := range p.servers {
		servers[i] = s.Identity()
	}
	slices.Sort(servers)
	for _, s := range servers {
		part(s)
	}
	part(string(p.entry.Protocol))
	for _, name := range slices.Sorted(maps.Keys(p.entry.Headers)) {
		part(http.CanonicalHeaderKey(name))
		for _, v := range p.entry.Headers[name] {
			part(v)
		}
	}
	return b.String()
}

// withSessions puts the session stage before the others, where the protocol has sessions. Those of a stdio server are its own: see
// package streamable.
func (p *pipeline) withSessions(next mcp.Caller) mcp.Caller {
	c := &p.entry
	switch {
	case c.Protocol == config.ProtocolJSONRPC, p.stdio != nil:
		return next
	case c.Transport == config.TransportSSE:
		return httpsse.New(httpsse.Options{
			Upstream: c.Name, Next: next, URL: c.URL, Log: p.log,
			Handshake: c.Timeouts.Handshake, FirstByte: c.Timeouts.FirstByte, Call: c.Timeouts.Call,
		})
	}
	p.session = session.New(session.Options{
		Upstream: c.Name, Next: next, Probe: mcp.CallerFunc(p.dispatch.Direct), Reopen: c.Streams.Reopen, Heal: heals[c.Sessions.Heal],
		Credential: p.store.Partition, Repeatable: p.mayRepeat, Recovered: p.replaced, Base: p.ctx, Bound: &p.bound, Metrics: p.sessions, Log: p.log,
	})
	return p.session
}

// replaced invalidates what is cached of a server that has lost its sessions, or a process that ended by itself, or has other files.
func (p *pipeline) replaced() {
	if p.cache != nil {
		p.cache.Replaced()
	}
}

var heals = map[config.Heal]session.Heal{
	config.HealOff: session.HealOff, config.HealReads: session.HealReads, config.HealAll: session.HealAll,
}

// newArrays makes what answers /rpc/<name>.
func (p *pipeline) newArrays(next mcp.Caller) *rpc.Arrays {
	c, all := &p.entry, &p.cfg.RPC
	return rpc.New(rpc.Options{
		Upstream: c.Name, Version: p.version, Next: next, Plain: c.Protocol == config.ProtocolJSONRPC,
		Concurrency: min(all.Concurrency, c.Limits.MaxInFlight), Timeout: all.Timeout, Answers: all.Answers, MaxBatch: max(c.Batch.Max, 1),
		Partition: p.store.Partition, Base: p.ctx, Buffers: p.buffers, Metrics: p.arrays, Log: p.log,
	})
}

// routed is the pipeline as the handler knows it.
func (p *pipeline) routed() proxy.Route {
	c := &p.entry
	u := proxy.Route{
		Name: c.Name, URL: c.URL, URLs: c.URLs, Caller: p.whenOpen(func() mcp.Caller { return p.caller }), Plain: c.Protocol == config.ProtocolJSONRPC, Headers: header.Of(c.Headers),
		ForwardCookies: c.ForwardCookies, RewriteOAuth: c.URL != nil && c.OAuth == config.OAuthRewrite,
		OldTransport: c.Transport == config.TransportSSE, Users: &p.users, PrivateTo: privateTo(c.Stdio),
	}
	if !p.isOpen() || p.array != nil { // a command has one
		u.Array = p.whenOpen(func() mcp.Caller { return p.array })
	}
	return u
}

// privateTo returns the users that a server is for which runs as the daemon's user; nil, which is everybody, for other servers.
func privateTo(server *config.Stdio) []uint32 {
	if server == nil {
		return nil
	}
	users := []uint32{uint32(os.Geteuid())}
	for _, u := range server.AllowUsers {
		users = append(users, u.UID)
	}
	return users
}

// status says what the pipeline does; with use, what each of its processes takes, too.
func (p *pipeline) status(use map[*process.Process]process.Usage, now time.Time) api.UpstreamStatus {
	s := api.UpstreamStatus{Upstream: p.entry.Name, Status: p.dispatch.Status()}
	for _, one := range p.servers {
		s.Hosts = append(s.Hosts, one.Status())
	}
	if p.session != nil && p.entry.Sessions.Heal != config.HealOff { // which knows of none
		sessions := p.session.Status()
		s.Sessions = &sessions
	}
	if p.stdio != nil {
		s.Sessions = p.stdio.sessionStatus()
		all := p.stdio.processStatus(use, now)
		s.CommandHosts = config.URLHosts(p.entry.Stdio.Command)
		s.MaxProcesses = p.entry.Stdio.Processes.Max
		if s.ProcessesNow = len(all); use != nil {
			s.Processes, s.Ready = all, p.stdio.readyStatus()
		}
	}
	return s
}

// drain lets no call wait for company any more.
func (p *pipeline) drain() {
	if p.isOpen() && p.window != nil {
		p.window.Drain()
	}
}

// close ends what the stages have under way on their own, from the outside in, and waits for it. The calls of agents have ended.
func (p *pipeline) close() {
	p.cancel(mcp.Draining())
	p.endOpening()
	if p.array != nil {
		p.array.Close()
	}
	if p.session != nil {
		p.session.Close()
	}
	if p.stdio != nil {
		p.stdio.front.Close()
	}
	if p.cache != nil {
		p.cache.Close()
	}
	if p.window != nil {
		p.window.Wait()
	}
}

// disconnect closes the servers, and waits for what they have under way. Nothing calls them any more.
func (p *pipeline) disconnect() {
	if !p.isOpen() {
		return
	}
	for _, s := range p.servers {
		s.Close()
	}
	for _, b := range p.breakers {
		b.Close()
	}
	p.admission.Close()
	if p.session != nil {
		p.session.Forget()
	}
}

// retire ends a pipeline to which no request is routed any more while the daemon goes on: when its last request has ended. Its streams
// are ended as at the drain, its calls end by themselves.
func (p *pipeline) retire() {
	p.drain()
	p.handler.Retire(&p.users)
	p.close()
	p.disconnect()
}
