package main

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
	"github.com/spf13/cobra"

	"fluentd-perf/internal/admin"
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
	refusing       = 5 * time.Second  // before the drain's deadline: a call that begins by then may not end in time
	drainTick      = 10 * time.Millisecond
	unowedGrace    = 5 * time.Second // at the drain, for what is owed no answer, once no call is in flight
	lastWords      = 2 * time.Second // after the drain's deadline, for the errors to leave
	secondSignal   = time.Second     // what comes sooner after the first signal is the first again: timeout(1) sends it twice
	lastCalls      = 6 * time.Second // for what the stages have under way on their own: ending sessions takes five
	lastWrites     = 5 * time.Second // for what waits for the tiers
	lastNotices    = 6 * time.Second // for servers to hear that calls were cancelled
)

// sourceFlags say where the configuration comes from; serve and check share them.
type sourceFlags struct {
	file      string
	mcpJSON   []string
	upstreams []string
	listen    []string
}

func (f *sourceFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "config", "", "configuration `file` (YAML)")
	c.Flags().StringArrayVar(&f.mcpJSON, "mcp-json", nil, "front every server that this servers `file` of an agent names; may be repeated")
	c.Flags().StringArrayVar(&f.upstreams, "upstream", nil, "an upstream as `name=url`; may be repeated")
	c.Flags().StringArrayVar(&f.listen, "listen", nil, "`address` to listen on, in place of the configured ones; may be repeated")
}

func (f *sourceFlags) load() (*config.Config, []config.Warning, error) {
	cfg, warnings, err := config.Load(config.Sources{
		File: f.file, MCPJSON: f.mcpJSON, Upstreams: f.upstreams, Listen: f.listen, Env: os.LookupEnv, ReadFile: os.ReadFile,
	})
	if err != nil {
		return nil, warnings, usageError{err}
	}
	return cfg, warnings, nil
}

func serveCommand() *cobra.Command {
	var sources sourceFlags
	var dirs directoryFlags
	var logs logFlags
	c := &cobra.Command{
		Use: "serve", Short: "Run the daemon", Args: cobra.NoArgs,
		Example: "  fluentd-perf serve --config fluentd-perf.yaml\n" +
			"  fluentd-perf serve --mcp-json .mcp.json\n" +
			"  fluentd-perf serve --upstream docs=https://example.com/mcp",
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logs.logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			surviveBrokenPipes()
			defer surviveHangups(log)()
			cfg, warnings, err := sources.load()
			for _, w := range warnings {
				log.Warn(w.String())
			}
			if err != nil {
				return err
			}
			own, err := dirs.resolveOrWarn(log)
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, own, log, c.OutOrStdout(), nil)
		},
	}
	sources.register(c)
	dirs.register(c)
	logs.register(c)
	return c
}

// serve runs the daemon until a signal or the end of ctx, and drains it. ready, if not nil, is told the address once the
// daemon takes requests.
func serve(ctx context.Context, cfg *config.Config, dirs directories, log *slog.Logger, out io.Writer, ready func(addr string)) error {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	// net/http tells some things to the standard logger, with bytes that servers sent.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)

	d, err := assemble(ctx, cfg, dirs, log, out)
	if err != nil {
		return err
	}
	d.start()
	defer runtime.KeepAlive(newBallast())
	log.Info("fluentd-perf is ready", "version", buildVersion(), "addresses", d.addresses(), "upstreams", len(cfg.Upstreams))
	stopNotifying := notifyReady(d.addresses()[0], log)
	if ready != nil {
		ready(d.addresses()[0])
	}

	select {
	case <-ctx.Done():
	case err = <-d.failed:
		log.Error("a listener failed", "error", err)
	}
	deaf := time.AfterFunc(secondSignal, stop) // from then on a signal ends the process at once
	defer deaf.Stop()
	stopNotifying() // before the listener closes, or the watchdog's question is refused
	return errors.Join(err, d.drain(cfg.Drain))
}

// daemon is everything that runs, in the order in which it was started.
type daemon struct {
	log       *slog.Logger
	registry  *prometheus.Registry
	state     *cache.State
	store     *cache.Store
	roads     []*road // one for each upstream
	total     *breaker.Total
	started   time.Time
	buffered  *mcp.Budget
	draining  atomic.Bool
	door      *proxy.Door
	base      context.Context // of every request
	abandon   context.CancelCauseFunc
	server    *http.Server
	conns     connections // of the server
	listeners []net.Listener
	ownSocket bool           // the listeners are this daemon's own, and nobody else accepts there
	accepting sync.WaitGroup // the accept loops of the server
	metrics   *http.Server   // nil where /metrics is on the door
	metricsOn net.Listener
	admin     *admin.Server // nil where there is none; takeOver's while that runs
	takeOver  takeOver
	joined    atomic.Bool // the state directory is this daemon's, or there is none
	late      *lateTier   // nil where there is no embedded tier
	failed    chan error
}

// assemble builds the daemon from the inside out, and opens its listeners. Nothing runs yet.
func assemble(ctx context.Context, cfg *config.Config, dirs directories, log *slog.Logger, out io.Writer) (_ *daemon, err error) {
	d := &daemon{log: log, failed: make(chan error, 4), started: time.Now(), total: breaker.NewTotal(cfg.Limits.InFlight), buffered: mcp.NewBudget(cfg.Limits.Buffered)}
	d.base, d.abandon = context.WithCancelCause(context.Background())
	reg := newRegistry()
	d.registry = reg
	buffers := new(mcp.BufferPool)
	registerProcessMetrics(reg, buffers, log)

	// What is undone where a later part cannot be had.
	defer func() {
		if err != nil {
			d.closeCache(time.Second)
		}
	}()
	breakers := breaker.NewMetrics(reg)
	if err := d.openCache(cfg, dirs.state, breakers, reg, buffers); err != nil {
		return nil, err
	}
	doors, err := d.openUpstreams(cfg, breakers, reg, buffers)
	if err != nil {
		return nil, err
	}
	token, err := daemonToken(cfg, out)
	if err != nil {
		return nil, err
	}
	if err := d.listen(ctx, cfg, token != ""); err != nil {
		return nil, err
	}
	d.door, err = proxy.New(proxy.Options{
		Upstreams: doors, Hosts: hosts(cfg, d.listeners), Origins: cfg.Origins, Token: token,
		BodyLimit: cfg.Limits.Body, Buffered: d.buffered, MaxStreams: d.maxStreams(cfg), ErrorsHTTP: cfg.Errors == config.ErrorsHTTP,
		Metrics: proxy.NewMetrics(reg), MetricsHandler: d.metricsHandler(cfg), MetricsToken: !onLoopback(d.listeners),
		Log: log,
	})
	if err != nil {
		closeAll(d.listeners)
		return nil, err
	}
	d.server = d.httpServer(d.conns.handler(d.door))
	d.server.BaseContext = func(net.Listener) context.Context { return d.base }
	d.server.ConnContext, d.server.ConnState = withConnection, connectionState
	if d.metricsOn != nil {
		d.metrics = d.metricsServer()
	}
	d.openAdmin(dirs.runtime, cfg.Admin.Group)
	return d, nil
}

// daemonToken returns the token that agents must show, made now and printed where the configuration asks for that.
func daemonToken(cfg *config.Config, out io.Writer) (string, error) {
	if !cfg.Auth.Generate {
		return cfg.Auth.Token, nil
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
		return usageError{errors.New("listening beyond loopback needs auth.token: whoever reaches the daemon uses its servers")}
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
		return usageError{errors.New("metrics.listen beyond loopback needs auth.token")}
	}
	return nil
}

func (d *daemon) metricsServer() *http.Server {
	mux := http.NewServeMux()
	scrape := scrapeHandler(d.registry)
	if onLoopback([]net.Listener{d.metricsOn}) {
		scrape = d.door.Guarded(scrape)
	} else {
		scrape = d.door.WithToken(scrape) // which no foreign page has; by what name it is scraped is nobody's concern
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

// stopAccepting closes the listeners, and returns when every connection that they had accepted is known to d.conns. What the
// kernel has accepted and the daemon has not would be reset with its listener: it is taken first, and served. Only what
// comes in the microsecond between the two is lost. A socket of the service manager's goes on listening: this was the
// daemon's copy of it, and what waits there is the next daemon's.
func (d *daemon) stopAccepting() {
	for _, l := range d.listeners {
		queued := &queuedListener{Listener: l}
		if d.ownSocket {
			queued.conns = acceptQueued(l)
		}
		_ = l.Close() // that it is closed is all that is wanted
		d.accept(d.conns.listener(queued))
	}
	d.accepting.Wait()
}

func (d *daemon) serveOn(s *http.Server, l net.Listener) {
	if err := s.Serve(l); !d.draining.Load() {
		d.failed <- err
	}
}

// drain stops the daemon, the start order read backwards: listeners close, streams end, what comes on open connections is
// served until shortly before the deadline, calls in flight finish, and connections close when they are idle; at the
// deadline the calls left get their error; then the flights end, what waits for the tiers is written, and the upstreams
// close.
//
// http.Server.Shutdown has no part in it: once it has begun, net/http answers nothing that comes on an open connection.
func (d *daemon) drain(patience time.Duration) error {
	d.draining.Store(true)
	d.stopAccepting()
	d.log.Info("draining; another signal, a second from now or later, ends it at once", "for", patience.String())
	d.takeOver.end()
	d.door.Drain()
	for _, r := range d.roads {
		r.drain()
	}
	if !d.served(patience - refusing) {
		d.door.Refuse()
		if !d.served(min(patience, refusing)) {
			d.log.Warn("the drain's deadline has passed, calls in flight end now")
		}
	}
	late := mcp.Draining()
	late.Sent = mcp.SentUnknown // the stages make it true to the facts
	d.abandon(late)
	d.served(lastWords)
	err := d.server.Close()
	if d.admin != nil {
		err = errors.Join(err, d.admin.Close())
	}
	d.onEveryRoad((*road).close, lastCalls)
	d.closeCache(lastWrites)
	d.onEveryRoad((*road).disconnect, lastNotices)
	if d.metrics != nil {
		err = errors.Join(err, d.metrics.Close())
	}
	d.log.Info("fluentd-perf has stopped")
	return err
}

// served waits until no connection is left, at most for so long, and reports whether that came true. Connections close as
// soon as no call is in flight: until then an agent may need one for the answer to a request of its server. Where nothing is
// left but what is owed no answer, a notification to a server that hangs, say, it is not waited for longer than unowedGrace:
// nobody waits for it either.
func (d *daemon) served(most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	owed := time.Now() // when something was left that is owed an answer, or may be
	for {
		now, calls := time.Now(), d.door.InFlight()
		if calls == 0 {
			d.conns.closeIdle(now)
		}
		switch open := d.conns.open(); {
		case open == 0:
			return true
		case calls > 0 || open > d.door.Unowed():
			owed = now
		case now.Sub(owed) >= unowedGrace:
			return true
		}
		select {
		case <-tick.C:
		case <-late.C:
			return false
		}
	}
}

// onEveryRoad does end with all roads at the same time, and leaves those behind that take longer than most: what waits for
// the tiers has to be written before the service manager's patience ends, however many upstreams there are.
func (d *daemon) onEveryRoad(end func(*road), most time.Duration) {
	ended := make(chan struct{}, len(d.roads))
	for _, r := range d.roads {
		go func() {
			end(r)
			ended <- struct{}{}
		}()
	}
	late := time.NewTimer(most)
	defer late.Stop()
	for n := range d.roads {
		select {
		case <-ended:
		case <-late.C:
			d.log.Warn("calls of the daemon's own have not ended and are left behind", "upstreams", len(d.roads)-n)
			return
		}
	}
}
