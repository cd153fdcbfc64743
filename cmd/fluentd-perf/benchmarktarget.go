package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/scenario"
)

// targetFlags say what is called, and that it may be.
type targetFlags struct {
	daemon, server string
	command        string
	inheritEnv     []string
	direct         bool
	headers        []string
	mayLoad        []string
	socket         socketFlag

	serverKnown  bool     // --server is an endpoint of a daemon that was asked what is behind it
	others       []string // hosts of servers that are not on this machine, or not known to be; filled in by resolve
	maxProcesses int      // of a stdio server; 0: it is none
}

func (f *targetFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "", "the `URL` of a server: a daemon is started in front of it, unless --daemon names one or --direct says none")
	flags.StringVar(&f.command, "command", "", "in place of --server: a server over stdin and stdout, its program and arguments; no shell reads them")
	flags.StringArrayVar(&f.inheritEnv, "inherit-env", nil, "a `variable` that a daemon hands on to --command, beyond the usual ones; may be repeated")
	flags.BoolVar(&f.direct, "direct", false, "without a daemon: the server alone")
	f.registerDaemon(c)
}

// registerDaemon adds the flags of a verb that calls a running daemon, and no server without one.
func (f *targetFlags) registerDaemon(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.daemon, "daemon", "", "a running daemon, as the `URL` of its endpoint or the name of an upstream of the one that verbs find")
	flags.StringArrayVar(&f.headers, "header", nil, "a header `'Name: value'` of every call that is made; may be repeated")
	flags.StringArrayVar(&f.mayLoad, "i-may-load", nil, "the `host` of a server that is not on this machine, which you may put under load; may be repeated")
	f.socket.register(c)
	completeUpstreams(c, "daemon", &f.socket)
}

// resolve finds what is called, and which hosts are not this machine.
func (f *targetFlags) resolve(ctx context.Context, c *cobra.Command, o *scenario.Options) (err error) {
	o.NoDaemon = f.direct
	if f.direct && f.daemon != "" {
		return daemon.UsageError{Err: errors.New("--direct is without a daemon, and --daemon names one")}
	}
	if len(f.headers) > 0 && f.daemon == "" && f.server == "" && f.command == "" {
		return daemon.UsageError{Err: errors.New("--header is for --daemon and --server")}
	}
	if f.command != "" || len(f.inheritEnv) > 0 {
		if err := f.resolveCommand(ctx, o); err != nil {
			return err
		}
	}
	if f.server != "" {
		if o.Server, err = endpointAt(f.server, "", f.headers); err != nil {
			return daemon.UsageError{Err: fmt.Errorf("--server: %w", err)}
		}
		if err := f.lookServer(ctx, c, o.Server); err != nil {
			return err
		}
	}
	if f.daemon != "" {
		return f.resolveDaemon(ctx, c, o)
	}
	return nil
}

// resolveCommand finds the program of --command, as this program's PATH has it, and the hosts of the URLs among its words.
func (f *targetFlags) resolveCommand(ctx context.Context, o *scenario.Options) error {
	switch {
	case f.command == "":
		return daemon.UsageError{Err: errors.New("--inherit-env is for --command")}
	case f.server != "":
		return daemon.UsageError{Err: errors.New("a server is a URL or a command: give --server or --command")}
	case len(f.headers) > 0 && f.daemon == "":
		return daemon.UsageError{Err: errors.New("--header is for HTTP, and --command is reached by a pipe")}
	case f.daemon != "" && len(f.inheritEnv) > 0:
		return daemon.UsageError{Err: errors.New("--inherit-env is for a daemon that is started, and --daemon names one that runs")}
	case f.direct && len(f.inheritEnv) > 0:
		return daemon.UsageError{Err: errors.New("--inherit-env is for a daemon, and --direct is without one: directly a command has all variables")}
	}
	words, err := config.SplitCommand(f.command)
	if err != nil {
		return daemon.UsageError{Err: fmt.Errorf("--command: %w", err)}
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return fmt.Errorf("--command: %w", err)
	}
	o.Server = &scenario.Endpoint{Target: loadgen.NewCommandTarget(loadgen.Command{Args: words})}
	o.InheritEnv = f.inheritEnv
	f.maxProcesses = scenario.MaxProcesses
	f.lookBridge(ctx, config.URLHosts(words))
	return nil
}

// lookBridge notes the hosts of the URLs in a command's words that are not this machine, or not known: it may be a bridge to a server
// there. That a name is not known is no error, as a URL may be a mere name of something.
func (f *targetFlags) lookBridge(ctx context.Context, hosts []string) {
	for _, host := range hosts {
		if f.lookAt(ctx, host) != nil {
			f.others = append(f.others, host)
		}
	}
}

func endpointAt(address, unix string, headers []string) (*scenario.Endpoint, error) {
	t, err := loadgen.NewTarget(address, unix, headers...)
	if err != nil {
		return nil, err
	}
	return &scenario.Endpoint{Target: t}, nil
}

// look notes an endpoint's host where it is not this machine.
func (f *targetFlags) look(ctx context.Context, at *scenario.Endpoint) error {
	if at.Target.Network == "unix" {
		return nil
	}
	known := len(f.others)
	err := f.lookAt(ctx, hostOf(at.Target.Address))
	at.Elsewhere = len(f.others) > known
	return err
}

// hostOf returns the host of an address that may have a port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// lookServer notes the host of --server where it is not this machine; where the URL is an endpoint of a daemon that can be asked, what
// is behind that.
func (f *targetFlags) lookServer(ctx context.Context, c *cobra.Command, at *scenario.Endpoint) error {
	if err := f.look(ctx, at); err != nil || at.Elsewhere {
		return err
	}
	var status api.Status
	if f.socket.ask(c, api.CallStatus, api.StatusParams{}, &status) != nil { // lookAnswer is left to tell
		return nil
	}
	name, isDaemon := upstreamAt(ctx, f.server, status.Addresses)
	if !isDaemon {
		return nil
	}
	f.serverKnown = true
	upstream := slices.IndexFunc(status.Upstreams, func(u api.UpstreamStatus) bool { return u.Upstream == name })
	if upstream < 0 { // what is behind it cannot be told
		f.others = append(f.others, hostOf(at.Target.Address))
		return nil
	}
	return f.lookBehind(ctx, status.Upstreams[upstream])
}

// lookAnswer notes the host of --server where it answers as a daemon does that cannot be asked what is behind it.
func (f *targetFlags) lookAnswer(ctx context.Context, server *scenario.Endpoint) {
	if f.server != "" && !server.Elsewhere && !f.serverKnown && scenario.IsDaemon(ctx, server.Target) {
		f.others = append(f.others, hostOf(server.Target.Address))
	}
}

func (f *targetFlags) lookAt(ctx context.Context, host string) error {
	own, err := scenario.OnThisMachine(ctx, host)
	if err == nil && !own {
		f.others = append(f.others, host)
	}
	return err
}

// resolveDaemon finds the daemon that --daemon names. What is behind it is known where its admin socket can be asked.
func (f *targetFlags) resolveDaemon(ctx context.Context, c *cobra.Command, o *scenario.Options) error {
	var status api.Status
	asked := f.socket.ask(c, api.CallStatus, api.StatusParams{}, &status)
	isURL := strings.Contains(f.daemon, "://")
	if asked != nil && (!isURL || f.socket.path != "" || f.socket.runtime != "") {
		return asked
	}
	address, unix, name := f.daemon, "", ""
	if isURL {
		name, _ = upstreamAt(ctx, address, status.Addresses)
	} else {
		name = f.daemon
		if address, unix = urlOf(status.Addresses, name); address == "" {
			return errors.New("the daemon listens nowhere")
		}
	}
	var err error
	if o.Daemon, err = endpointAt(address, unix, f.headers); err != nil {
		return daemon.UsageError{Err: fmt.Errorf("--daemon: %w", err)}
	}
	if err := f.look(ctx, o.Daemon); err != nil {
		return err
	}
	at := slices.IndexFunc(status.Upstreams, func(u api.UpstreamStatus) bool { return u.Upstream == name })
	switch {
	case at >= 0:
		o.Daemon.PID, o.Daemon.Version = status.PID, status.Version
		return f.lookBehind(ctx, status.Upstreams[at])
	case !isURL:
		return daemon.UsageError{Err: fmt.Errorf("the daemon has no upstream %q", name)}
	}
	if host := hostOf(o.Daemon.Target.Address); !slices.Contains(f.others, host) { // what is behind it cannot be told
		f.others = append(f.others, host)
	}
	return nil
}

// lookBehind notes the hosts of an upstream that are not this machine, and how many processes a stdio server may have.
func (f *targetFlags) lookBehind(ctx context.Context, u api.UpstreamStatus) error {
	if u.MaxProcesses > 0 {
		if f.maxProcesses == 0 || u.MaxProcesses < f.maxProcesses { // --command, or another daemon's, has a bound of its own
			f.maxProcesses = u.MaxProcesses
		}
		f.lookBridge(ctx, u.CommandHosts)
		return nil
	}
	for _, host := range u.Hosts {
		if err := f.lookAt(ctx, hostOf(host)); err != nil {
			return err
		}
	}
	return nil
}

// urlOf returns the URL of an upstream at the first of a daemon's addresses, and the Unix socket that it is.
func urlOf(addresses []string, upstream string) (address, unix string) {
	if len(addresses) == 0 {
		return "", ""
	}
	if path, ok := strings.CutPrefix(addresses[0], "unix:"); ok {
		return "http://localhost/mcp/" + url.PathEscape(upstream), path
	}
	return "http://" + addresses[0] + "/mcp/" + url.PathEscape(upstream), ""
}

// upstreamAt returns the name of the upstream that a URL means at the daemon with these addresses, and whether the URL is the daemon's
// at all; "" where it is no upstream's endpoint for MCP.
func upstreamAt(ctx context.Context, address string, addresses []string) (name string, isDaemon bool) {
	u, err := url.Parse(address)
	if err != nil || !slices.ContainsFunc(addresses, func(a string) bool { return listensAt(ctx, u, a) }) {
		return "", false
	}
	name, _ = strings.CutPrefix(u.Path, "/mcp/")
	return name, true
}

// listensAt reports whether a URL leads to who listens at an address of this machine. One without an IP address of its own is all of the
// machine's.
func listensAt(ctx context.Context, u *url.URL, address string) bool {
	listener, err := netip.ParseAddrPort(address)
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	if err != nil || port != strconv.Itoa(int(listener.Port())) { // a Unix socket has none
		return false
	}
	hosts, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	return err == nil && slices.ContainsFunc(hosts, func(host netip.Addr) bool {
		own := listener.Addr().Unmap()
		if own.IsUnspecified() {
			here, err := scenario.OnThisMachine(ctx, host.String())
			return err == nil && here
		}
		return own.WithZone("") == host.Unmap().WithZone("")
	})
}

// limit bounds the load on servers that nobody gave leave to load. What was asked for beyond that is refused.
func (f *targetFlags) limit(c *cobra.Command, o *scenario.Options) error {
	f.others = slices.DeleteFunc(f.others, func(host string) bool { return slices.Contains(f.mayLoad, host) })
	if len(f.others) == 0 {
		return nil
	}
	o.Limited = true
	host := f.others[0]
	if o.Concurrency > scenario.LimitedAtOnce || o.Rate > scenario.LimitedRate {
		return daemon.UsageError{Err: fmt.Errorf("%s is not on this machine, or nobody knows where the daemon's server is: at most %g calls a second and %d at once, unless you give --i-may-load %s",
			host, scenario.LimitedRate, scenario.LimitedAtOnce, host)}
	}
	if o.Scenario == "stdio" {
		return daemon.UsageError{Err: fmt.Errorf("%s may not be on this machine, and the scenario stdio has agents start at once, as fast as they can: give --i-may-load %s", host, host)}
	}
	limiter := loadgen.NewLimiter(scenario.LimitedRate) // one for all: they lead to the same server
	for _, at := range []*scenario.Endpoint{o.Daemon, o.Server} {
		if at != nil {
			at.Target.Limit = limiter
		}
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s may not be on this machine: %g calls a second and %d at once; --i-may-load %s lifts that\n",
		printable(host), scenario.LimitedRate, scenario.LimitedAtOnce, printable(host))
	return nil
}
