package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/api"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// Bounds of the HTTP server that no setting changes.
const (
	maxHeaderBytes = 64 << 10
	readTimeout    = 30 * time.Second // head and body of a request
	idleTimeout    = 10 * time.Minute // longer than any client keeps a connection: it closes first, and loses no POST
)

// SecondSignal is how long after the first signal another one counts: what comes sooner is the first again, since timeout(1) sends it
// twice.
const SecondSignal = time.Second

// UsageError is what the person who typed the command can mend.
type UsageError struct{ Err error }

// Error says what is wrong.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.Err }

// Options are what a daemon is made of. Config and Log are required.
type Options struct {
	Config    *config.Config
	Paths     Paths // resolved
	Log       *slog.Logger
	Out       io.Writer // where a token goes that is made at start; nil: nowhere
	Version   string
	LostLines func() float64    // how many lines of the log were lost; nil: none
	Ready     func(addr string) // is told the first address once the daemon takes requests; nil: nobody is

	LoginLimit time.Duration // how long one run of a login shell may take; 0: 5 s
}

func (o *Options) complete() {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.LostLines == nil {
		o.LostLines = func() float64 { return 0 }
	}
	if o.Ready == nil {
		o.Ready = func(string) {}
	}
}

// Run runs a daemon until SIGTERM, an interrupt or the end of ctx, and drains it. Its error is a UsageError where the operator can
// mend it.
func Run(ctx context.Context, o Options) error {
	o.complete()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	// net/http tells some things to the standard logger, with bytes that servers sent.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(o.Log)

	d, err := assemble(ctx, o)
	if err != nil {
		return err
	}
	d.ballast = newBallast()
	defer limitMemory(d.log, ownCgroupLimit())()
	defer releaseMemory()()
	d.start()
	d.log.Info("fluentd-perf is ready", "version", d.version, "addresses", d.addresses(), "upstreams", len(o.Config.Upstreams))
	stopNotifying := notifyReady(d.addresses()[0], d.log)
	o.Ready(d.addresses()[0])

	select {
	case <-ctx.Done():
	case err = <-d.failed:
		d.log.Error("a listener failed", "error", err)
	}
	restoreSignals := time.AfterFunc(SecondSignal, stop) // from then on a signal ends the process at once
	defer restoreSignals.Stop()
	stopNotifying() // before the listener closes, or the watchdog's request is refused
	err = errors.Join(err, d.drain(o.Config.Drain))
	runtime.KeepAlive(d.ballast)
	return err
}

// daemon is everything that runs, in the order in which it was started.
type daemon struct {
	log            *slog.Logger
	version        string
	registry       *prometheus.Registry
	watched        *prometheus.Registry // those of its metrics that a sample tells of
	state          *cache.State
	store          *cache.Store
	total          *admission.Total
	started        time.Time
	buffered       *mcp.Budget
	draining       atomic.Bool
	handler        *proxy.Handler
	processes      *processes    // of stdio servers; nil where there are none
	loginLimit     time.Duration // Options.LoginLimit
	processMetrics *processMetrics
	cacheDir       string          // for what can be fetched again; "": there is none
	shared         *shared         // by all pipelines
	mu             sync.Mutex      // guards the following
	pipelines      []*pipeline     // one for each upstream, in the order of the configuration. The list is replaced, not changed
	retiring       sync.WaitGroup  // pipelines that were replaced and have requests left
	base           context.Context // of every request
	abandon        context.CancelCauseFunc
	server         *http.Server
	conns          connections // of the server
	listeners      []net.Listener
	ownSocket      bool           // the listeners are this daemon's own, and nobody else accepts there
	accepting      sync.WaitGroup // the accept loops of the server
	metrics        *http.Server   // nil where /metrics is among the agents' routes
	metricsOn      net.Listener
	adminGroup     bool        // a group may use the admin socket
	streamBytes    int64       // what an open stream of an agent takes
	admin          *api.Server // nil where there is none; takeOver's while that runs
	takeOver       takeOver
	joined         atomic.Bool // the state directory is this daemon's, or there is none
	late           *lateTier   // nil where there is no embedded tier
	failed         chan error
	ballast        []byte // never touched
}

// assemble builds the daemon from the inside out, and opens its listeners. Nothing runs yet.
func assemble(ctx context.Context, o Options) (_ *daemon, err error) {
	o.complete()
	cfg, log := o.Config, o.Log
	d := &daemon{log: log, version: o.Version, failed: make(chan error, 4), started: time.Now(), loginLimit: o.LoginLimit, streamBytes: streamBytes(cfg), cacheDir: o.Paths.Cache, total: admission.NewTotal(cfg.Limits.InFlight), buffered: mcp.NewBudget(cfg.Limits.Buffered)}
	d.base, d.abandon = context.WithCancelCause(context.Background())
	reg := newWatchedRegistry()
	d.registry, d.watched = reg.Registry, reg.watched
	buffers := new(mcp.BufferPool)
	registerProcessMetrics(reg, buffers, &o)

	// What is undone where a later part cannot be had.
	defer func() {
		if err != nil {
			d.closeSessions()
			d.closeCache(time.Second)
		}
	}()
	breakers := breaker.NewMetrics(reg)
	if err := d.openCache(cfg, o.Paths.State, breakers, reg, buffers); err != nil {
		return nil, err
	}
	d.shared = newShared(d, buffers, breakers, reg)
	d.processMetrics = newProcessMetrics(reg, d.routed)
	pipelines := d.newPipelines(cfg)
	token, err := daemonToken(cfg, o.Out)
	if err != nil {
		return nil, err
	}
	if err := d.listen(ctx, cfg, token != ""); err != nil {
		return nil, err
	}
	d.handler, err = proxy.New(proxy.Options{
		Hosts: hosts(cfg, d.listeners), Origins: cfg.Origins, Token: token,
		BodyLimit: cfg.Limits.Body, Buffered: d.buffered, MaxStreams: d.maxStreams(cfg), ErrorsHTTP: cfg.Errors == config.ErrorsHTTP,
		Metrics: proxy.NewMetrics(reg), MetricsHandler: d.metricsHandler(cfg), MetricsToken: !onLoopback(d.listeners),
		Partition: d.store.Partition, Peer: userOf, Log: log,
	})
	if err == nil {
		err = d.route(pipelines)
	}
	if err != nil {
		closeAll(d.listeners)
		return nil, err
	}
	d.server = d.httpServer(d.conns.handler(d.handler))
	d.server.BaseContext = func(net.Listener) context.Context { return d.base }
	d.server.ConnContext, d.server.ConnState = withConnection, connectionState
	if d.metricsOn != nil {
		d.metrics = d.metricsServer()
	}
	d.openAdmin(o.Paths.Runtime, cfg.Admin.Group)
	return d, nil
}

// newPipelines makes the pipelines of a configuration.
func (d *daemon) newPipelines(cfg *config.Config) []*pipeline {
	if d.processes == nil && slices.ContainsFunc(cfg.Upstreams, isStdio) {
		d.processes = d.newProcesses(cfg)
	}
	all := make([]*pipeline, len(cfg.Upstreams))
	for i, entry := range cfg.Upstreams {
		all[i] = newPipeline(d.shared, cfg, entry)
	}
	return all
}

// route has requests go to these pipelines from now on, and retires behind them those that are not among them any more. Where it
// fails nothing has changed. It is not called once the drain has begun.
func (d *daemon) route(next []*pipeline) error {
	list := make([]proxy.Route, len(next))
	for i, p := range next {
		list[i] = p.routed()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.handler.Swap(list); err != nil {
		return err
	}
	for _, p := range d.pipelines {
		if !slices.Contains(next, p) {
			d.retiring.Go(p.retire)
		}
	}
	for _, p := range next {
		p.beginOpening()
	}
	d.pipelines = next
	if d.processes != nil {
		d.processes.cpu.begin()
	}
	return nil
}

// routed returns the pipelines to which requests go now, without those of which there is nothing yet but their calls.
func (d *daemon) routed() []*pipeline {
	return slices.DeleteFunc(slices.Clone(d.all()), func(p *pipeline) bool { return !p.isOpen() })
}

// all returns the pipelines to which requests go now.
func (d *daemon) all() []*pipeline {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipelines
}

// daemonToken returns the token that agents must show, made now and printed where the configuration asks for that.
func daemonToken(cfg *config.Config, out io.Writer) (string, error) {
	if !cfg.Auth.Generate {
		return cfg.Auth.Token.Value, nil
	}
	token := rand.Text()
	_, err := fmt.Fprintf(out, "token for agents (`%s: <token>`), new at every start: %s\n", proxy.TokenHeader, token)
	return token, err
}

// maxStreams bounds the open streams by the configuration and by what the descriptors bear.
func (d *daemon) maxStreams(cfg *config.Config) int {
	descriptors := descriptorLimit()
	bound := streamCap(cfg.Limits.MaxStreams, descriptors)
	if bound < cfg.Limits.MaxStreams {
		level := slog.LevelWarn
		if bound > cfg.Limits.MaxStreams*9/10 { // nothing to trouble anybody with
			level = slog.LevelDebug
		}
		d.log.Log(d.base, level, "the descriptor limit bounds the open streams: a stream takes two",
			"descriptors", descriptors, "streams", bound, "max_streams", cfg.Limits.MaxStreams)
	}
	return bound
}

func (d *daemon) metricsHandler(cfg *config.Config) http.Handler {
	if cfg.Metrics.Listen != "" {
		return nil
	}
	return scrapeHandler(d.registry)
}

// scrapeHandler shows the metrics. What Go counts of allocations lies with each processor until it needs another span: without the read,
// which has all of it added up, a scrape would be short of thousands of them, and what a call allocates could not be told of few calls.
func scrapeHandler(reg *prometheus.Registry) http.Handler {
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runtime.ReadMemStats(new(runtime.MemStats))
		h.ServeHTTP(w, r)
	})
}

func (d *daemon) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, MaxHeaderBytes: maxHeaderBytes, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
}

// listen opens the listeners. The service manager may hand over others than those that the configuration was checked
// with, so what they are is looked at here.
func (d *daemon) listen(ctx context.Context, cfg *config.Config, hasToken bool) error {
	var err error
	if d.listeners, d.ownSocket, err = openListeners(ctx, cfg.Listen, d.log); err != nil {
		return err
	}
	if !hasToken && !onLoopback(d.listeners) {
		closeAll(d.listeners)
		return UsageError{Err: errors.New("listening beyond loopback needs auth.token: whoever reaches the daemon uses its servers")}
	}
	if cfg.Metrics.Listen == "" {
		return nil
	}
	var lc net.ListenConfig
	if d.metricsOn, err = lc.Listen(ctx, "tcp", cfg.Metrics.Listen); err != nil {
		closeAll(d.listeners)
		return fmt.Errorf("listening on %s for metrics: %w", cfg.Metrics.Listen, err)
	}
	if !hasToken && !onLoopback([]net.Listener{d.metricsOn}) {
		closeAll(append(d.listeners, d.metricsOn))
		return UsageError{Err: errors.New("metrics.listen beyond loopback needs auth.token")}
	}
	return nil
}

func (d *daemon) metricsServer() *http.Server {
	mux := http.NewServeMux()
	scrape := scrapeHandler(d.registry)
	if onLoopback([]net.Listener{d.metricsOn}) {
		scrape = d.handler.Guarded(scrape)
	} else {
		scrape = d.handler.WithToken(scrape) // which no page of another origin has; by what name it is scraped is nobody's concern
	}
	mux.Handle("GET /metrics", scrape)
	s := d.httpServer(mux)
	s.WriteTimeout = readTimeout
	return s
}

func (d *daemon) addresses() []string {
	addrs := make([]string, len(d.listeners))
	for i, l := range d.listeners {
		addrs[i] = listenAddress(l)
	}
	return addrs
}

// start serves every listener.
func (d *daemon) start() {
	for _, l := range d.listeners {
		d.accept(d.conns.listener(l))
	}
	if d.metrics != nil {
		go d.serveOn(d.metrics, d.metricsOn)
	}
	d.serveAdmin()
	d.takeOver.begin()
}

// accept serves the connections of one more listener.
func (d *daemon) accept(l net.Listener) { d.accepting.Go(func() { d.serveOn(d.server, l) }) }

func (d *daemon) serveOn(s *http.Server, l net.Listener) {
	if err := s.Serve(l); !d.draining.Load() {
		d.failed <- err
	}
}
