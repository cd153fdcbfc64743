package daemon

import (
	"context"
	"path"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/batch/window"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session"
	"fluentd-perf/internal/session/httpsse"
	"fluentd-perf/internal/upstream"
)

// builder makes the stages of upstreams, and what they share.
type builder struct {
	*daemon
	cfg      *config.Config
	buffers  *mcp.BufferPool
	pools    *upstream.Metrics
	breakers *breaker.Metrics
	queues   *admission.Metrics
	retries  *dispatch.Metrics
	windows  *window.Metrics
	arrays   *rpc.Metrics
	sessions *session.Metrics
	bound    *session.Bound
}

// pipeline is the stages of one upstream, the outermost first.
type pipeline struct {
	upstream  config.Upstream
	array     *rpc.Arrays
	session   *session.Stage  // nil where there are no sessions
	cache     *cache.Upstream // nil where nothing is cached
	window    *window.Stage   // nil where no arrays go to the server
	dispatch  *dispatch.Stage
	admission *admission.Admission
	servers   []*upstream.Upstream
}

// openUpstreams makes the stages of every upstream.
func (d *daemon) openUpstreams(cfg *config.Config, breakers *breaker.Metrics, reg prometheus.Registerer, buffers *mcp.BufferPool) ([]proxy.Upstream, error) {
	b := builder{
		daemon: d, cfg: cfg, buffers: buffers, breakers: breakers, queues: admission.NewMetrics(reg), retries: dispatch.NewMetrics(reg),
		pools: upstream.NewMetrics(reg), windows: window.NewMetrics(reg), arrays: rpc.NewMetrics(reg), sessions: session.NewMetrics(reg), bound: new(session.Bound),
	}
	var all []proxy.Upstream
	for _, c := range cfg.Upstreams {
		one, err := b.build(c)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// build makes the stages of one upstream from the inside out: connections, breakers, dispatch, arrays, the
// cache, sessions.
func (b *builder) build(c config.Upstream) (proxy.Upstream, error) {
	r := &pipeline{upstream: c}
	endpoints, err := b.endpoints(c, r)
	if err != nil {
		return proxy.Upstream{}, err
	}
	again := mayRepeat(c)
	r.admission = admission.New(admission.Options{
		Upstream: c.Name, MaxInFlight: c.Limits.MaxInFlight, Queue: c.Limits.Queue, QueueWait: c.Limits.QueueWait,
		Total: b.total, Partition: b.store.Partition, Metrics: b.queues, Log: b.log,
	})
	r.dispatch = dispatch.New(dispatch.Options{
		Upstream: c.Name, Endpoints: endpoints, Admission: admitting{r.admission}, SlowCall: c.Breaker.SlowCall, Repeatable: again,
		Retry:   dispatch.RetryOptions{Max: c.Retry.Max, Budget: c.Retry.Budget, Hedge: c.Retry.Hedge},
		Metrics: b.retries,
	})
	var server mcp.Caller = r.dispatch
	if c.Batch.Max > 0 {
		r.window = window.New(window.Options{
			Upstream: c.Name, Next: server, Max: c.Batch.Max, Window: c.Batch.Window, Partition: b.store.Partition,
			Repeatable: again, Refusal: r.dispatch.Refusal, Base: b.base, Buffers: b.buffers, Metrics: b.windows, Log: b.log,
		})
		server = r.window
	}
	if c.Transport != config.TransportSSE { // there answers come on another stream than their calls: they are relayed
		r.cache = b.cached(c, server)
		server = r.cache
	}
	caller := b.withSessions(c, r, server, again)
	b.pipelines = append(b.pipelines, r)
	routed := proxy.Upstream{
		Name: c.Name, URL: c.URL, URLs: c.URLs, Caller: caller, Plain: c.Protocol == config.ProtocolJSONRPC, Headers: c.Headers,
		ForwardCookies: c.ForwardCookies, RewriteOAuth: c.OAuth == config.OAuthRewrite,
		OldTransport: c.Transport == config.TransportSSE,
	}
	if !routed.OldTransport { // its answers come on another stream than its calls
		r.array = b.rpc(c, caller)
		routed.Array = r.array
	}
	return routed, nil
}

// endpoints makes a pool of connections and a breaker for each URL.
func (b *builder) endpoints(c config.Upstream, r *pipeline) ([]dispatch.Endpoint, error) {
	endpoints := make([]dispatch.Endpoint, len(c.URLs))
	for i, url := range c.URLs {
		u, err := upstream.New(upstream.Options{
			Name: c.Name, URL: url,
			Pool: upstream.PoolOptions{
				MaxConnections: c.Pool.MaxConnections, MaxIdle: c.Pool.MaxIdle,
				IdleTimeout: c.Pool.IdleTimeout, MaxAge: c.Pool.MaxAge,
			},
			Connections: admission.NewConnections(admission.ConnectionOptions{
				Upstream: c.Name, Max: c.Pool.MaxConnections, Wait: c.Pool.WaitTimeout, Metrics: b.queues,
			}),
			Timeouts: upstream.Timeouts{
				Connect: c.Timeouts.Connect, Handshake: c.Timeouts.Handshake, FirstByte: c.Timeouts.FirstByte,
				Call: c.Timeouts.Call, Idle: c.Timeouts.Idle,
			},
			CheckBody: b.cfg.Limits.CheckBody, EventLimit: b.cfg.Limits.Event,
			Buffered: b.buffered, Buffers: b.buffers, Metrics: b.pools, Times: b.store.Times(c.Name), Log: b.log,
		})
		if err != nil {
			return nil, err
		}
		r.servers = append(r.servers, u)
		endpoints[i] = dispatch.Endpoint{Caller: u, Breaker: b.breaker(c, i), GivenUp: u.GivenUp}
	}
	return endpoints, nil
}

// breaker makes the breaker of an endpoint, nil where there is to be none.
func (b *builder) breaker(c config.Upstream, endpoint int) dispatch.Breaker {
	if c.Breaker.Off {
		return nil
	}
	return breaking{breaker.NewEndpoint(breaker.EndpointOptions{
		Upstream: c.Name, Endpoint: strconv.Itoa(endpoint), Window: c.Breaker.Window, MinRequests: c.Breaker.MinRequests,
		FailureRatio: c.Breaker.FailureRatio, InARow: c.Breaker.InARow, Metrics: b.breakers, Log: b.log,
	})}
}

// breaking and admitting are a breaker and an admission as dispatch knows them: no stage imports another.
type (
	breaking  struct{ *breaker.Breaker }
	admitting struct{ *admission.Admission }
)

func (b breaking) Allow(early bool) (dispatch.Permit, bool) {
	p, ok := b.Breaker.Allow(early)
	return p, ok
}

func (a admitting) Enter(ctx context.Context, c *mcp.Call) (dispatch.Slot, *mcp.Failure) {
	slot, f := a.Admission.Enter(ctx, c)
	return slot, f
}

// withSessions puts the session stage before the others, where the protocol has sessions.
func (b *builder) withSessions(c config.Upstream, r *pipeline, next mcp.Caller, again func(*mcp.Call) bool) mcp.Caller {
	if c.Protocol == config.ProtocolJSONRPC {
		return next
	}
	if c.Transport == config.TransportSSE {
		return httpsse.New(httpsse.Options{
			Upstream: c.Name, Next: next, URL: c.URL, Log: b.log,
			Handshake: c.Timeouts.Handshake, FirstByte: c.Timeouts.FirstByte, Call: c.Timeouts.Call,
		})
	}
	r.session = session.New(session.Options{
		Upstream: c.Name, Next: next, Probe: mcp.CallerFunc(r.dispatch.Direct), Reopen: c.Streams.Reopen, Heal: heals[c.Sessions.Heal], Credential: b.store.Partition,
		Repeatable: again, Base: b.base, Bound: b.bound, Metrics: b.sessions, Log: b.log,
	})
	return r.session
}

var heals = map[config.Heal]session.Heal{
	config.HealOff: session.HealOff, config.HealReads: session.HealReads, config.HealAll: session.HealAll,
}

// rpc makes what answers /rpc/<name>.
func (b *builder) rpc(c config.Upstream, next mcp.Caller) *rpc.Arrays {
	o := b.cfg.RPC
	return rpc.New(rpc.Options{
		Upstream: c.Name, Version: b.version, Next: next, Plain: c.Protocol == config.ProtocolJSONRPC,
		Concurrency: min(o.Concurrency, c.Limits.MaxInFlight), Timeout: o.Timeout, Answers: o.Answers, MaxBatch: max(c.Batch.Max, 1),
		Partition: b.store.Partition, Base: b.base, Buffers: b.buffers, Metrics: b.arrays, Log: b.log,
	})
}

// mayRepeat returns what may be sent again though nobody knows whether it ran: what the protocol says, and the operator's
// tools and methods.
func mayRepeat(c config.Upstream) func(*mcp.Call) bool {
	if c.Protocol == config.ProtocolJSONRPC {
		return func(call *mcp.Call) bool {
			return call.Again || call.Regular() && isAny(c.Retry.Methods, call.Message.MethodName.Of(call.Body))
		}
	}
	return func(call *mcp.Call) bool {
		return call.Again || call.Repeatable() ||
			call.Method() == mcp.MethodToolsCall && call.Regular() && isAny(c.Retry.Tools, call.Message.Name.Of(call.Body))
	}
}

// isAny reports whether a JSON string matches one of the patterns.
func isAny(patterns []string, token []byte) bool {
	if len(patterns) == 0 {
		return false
	}
	name, ok := mcp.Text(token)
	if !ok {
		return false
	}
	for _, p := range patterns {
		if match, err := path.Match(p, name); match && err == nil {
			return true
		}
	}
	return false
}

// drain lets no call wait for company any more.
func (r *pipeline) drain() {
	if r.window != nil {
		r.window.Drain()
	}
}

// close waits for what the stages have under way on their own, from the outside in, and closes the connections. The calls of
// agents have ended, and so has the daemon's context.
func (r *pipeline) close() {
	if r.array != nil {
		r.array.Close()
	}
	if r.session != nil {
		r.session.Close()
	}
	if r.cache != nil {
		r.cache.Wait()
	}
	if r.window != nil {
		r.window.Wait()
	}
}

func (r *pipeline) disconnect() {
	for _, u := range r.servers {
		u.Close()
	}
	r.admission.Close()
}
