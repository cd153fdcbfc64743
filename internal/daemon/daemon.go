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
	SecondSignal   = time.Second      // what comes sooner after the first signal is the first again: timeout(1) sends it twice
)

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
	d.start()
	defer runtime.KeepAlive(newBallast())
	d.log.Info("fluentd-perf is ready", "version", d.version, "addresses", d.addresses(), "upstreams", len(o.Config.Upstreams))
	stopNotifying := notifyReady(d.addresses()[0], d.log)
	o.Ready(d.addresses()[0])

	select {
	case <-ctx.Done():
	case err = <-d.failed:
		d.log.Error("a listener failed", "error", err)
	}
	deaf := time.AfterFunc(SecondSignal, stop) // from then on a signal ends the process at once
	defer deaf.Stop()
	stopNotifying() // before the listener closes, or the watchdog's question is refused
	return errors.Join(err, d.drain(o.Config.Drain))
}

// daemon is everything that runs, in the order in which it was started.
type daemon struct {
	log       *slog.Logger
	version   string
	registry  *prometheus.Registry
	state     *cache.State
	store     *cache.Store
	pipelines []*pipeline // one for each upstream
	total     *admission.Total
	started   time.Time
	buffered  *mcp.Budget
	draining  atomic.Bool
	handler   *proxy.Handler
	base      context.Context // of every request
	abandon   context.CancelCauseFunc
	server    *http.Server
	conns     connections // of the server
	listeners []net.Listener
	ownSocket bool           // the listeners are this daemon's own, and nobody else accepts there
	accepting sync.WaitGroup // the accept loops of the server
	metrics   *http.Server   // nil where /metrics is among the agents' routes
	metricsOn net.Listener
	admin     *api.Server // nil where there is none; takeOver's while that runs
	takeOver  takeOver
	joined    atomic.Bool // the state directory is this daemon's, or there is none
	late      *lateTier   // nil where there is no embedded tier
	failed    chan error
}

// assemble builds the daemon from the inside out, and opens its listeners. Nothing runs yet.
func assemble(ctx context.Context, o Options) (_ *daemon, err error) {
	o.complete()
	cfg, log := o.Config, o.Log
	d := &daemon{log: log, version: o.Version, failed: make(chan error, 4), started: time.Now(), total: admission.NewTotal(cfg.Limits.InFlight), buffered: mcp.NewBudget(cfg.Limits.Buffered)}
	d.base, d.abandon = context.WithCancelCause(context.Background())
	reg := newRegistry()
	d.registry = reg
	buffers := new(mcp.BufferPool)
	registerProcessMetrics(reg, buffers, &o)

	// What is undone where a later part cannot be had.
	defer func() {
		if err != nil {
			d.closeCache(time.Second)
		}
	}()
	breakers := breaker.NewMetrics(reg)
	if err := d.openCache(cfg, o.Paths.State, breakers, reg, buffers); err != nil {
		return nil, err
	}
	upstreams, err := d.openUpstreams(cfg, breakers, reg, buffers)
	if err != nil {
		return nil, err
	}
	token, err := daemonToken(cfg, o.Out)
	if err != nil {
		return nil, err
	}
	if err := d.listen(ctx, cfg, token != ""); err != nil {
		return nil, err
	}
	d.handler, err = proxy.New(proxy.Options{
		Upstreams: upstreams, Hosts: hosts(cfg, d.listeners), Origins: cfg.Origins, Token: token,
		BodyLimit: cfg.Limits.Body, Buffered: d.buffered, MaxStreams: d.maxStreams(cfg), ErrorsHTTP: cfg.Errors == config.ErrorsHTTP,
		Metrics: proxy.NewMetrics(reg), MetricsHandler: d.metricsHandler(cfg), MetricsToken: !onLoopback(d.listeners),
		Log: log,
	})
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
	descriptors := raiseDescriptorLimit()
	most := streamCap(cfg.Limits.MaxStreams, descriptors)
	if most < cfg.Limits.MaxStreams {
		d.log.Warn("the descriptor limit bounds the open streams: a stream takes two",
			"descriptors", descriptors, "streams", most, "max_streams", cfg.Limits.MaxStreams)
	}
	return most
}

func (d *daemon) metricsHandler(cfg *config.Config) http.Handler {
	if cfg.Metrics.Listen != "" {
		return nil
	}
	return scrapeHandler(d.registry)
}

func scrapeHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
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
		scrape = d.handler.WithToken(scrape) // which no foreign page has; by what name it is scraped is nobody's concern
	}
	mux.Handle("GET /metrics", scrape)
	s := d.httpServer(mux)
	s.WriteTimeout = readTimeout
	return s
}

func (d *daemon) addresses() []string {
	addrs := make([]string, len(d.listeners))
	for i, l := range d.listeners {
		addrs[i] = l.Addr().String()
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
