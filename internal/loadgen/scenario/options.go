package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/mcp"
)

// Endpoint is a daemon or a server that runs already.
type Endpoint struct {
	Target  *loadgen.Target
	PID     int    // of its process on this machine; 0: not known
	Version string // of a daemon; "": not known

	Elsewhere bool // its host is not this machine: it gets the calls, and nothing else is read of it
}

// Options say what to measure. Zero values of numbers are the scenario's own.
type Options struct {
	Scenario    string
	Version     string        // of this program
	Concurrency int           // calls at once
	Requests    int64         // to each target in each round
	Duration    time.Duration // of each round, in place of Requests
	Rate        float64       // calls a second: an open loop
	Rounds      int
	Connections int // of the scenarios connections and targets
	Era         mcp.Era
	EraGiven    bool // by the user

	Daemon   *Endpoint     // that runs; nil: daemons are started, unless NoDaemon
	Server   *Endpoint     // that runs; nil: the scripted server, unless there is only a Daemon
	Call     *loadgen.Kind // what is called; nil: the scripted server's own tools
	NoDaemon bool
	Limited  bool // no load without leave: few calls, slowly; the targets have a Limiter

	MaxProcesses int      // of a server that is a command, and so calls at once; 0: it is none
	InheritEnv   []string // variables that a daemon hands on to the command of Server
	OwnTool      string   // of tool_latency: the only one of the benchmark's own tools that is called; "": all

	UnixSocket bool     // daemons that are started listen on a Unix socket
	Program    []string // the daemon's command; `serve` and its flags are appended
	Own        []string // the command of the scripted server
	Progress   func(Progress)
}

// Progress is how far a benchmark is.
type Progress struct {
	Run    string // as 32 at once; "" while things are started
	Target string
	Round  int // from 1; 0: warming up
	Rounds int
	loadgen.Point
	Total int64 // calls of the round; 0: it is not known
}

// The defaults of most scenarios, and of what is limited.
const (
	defaultRounds      = 5
	defaultConcurrency = 32
	defaultRequests    = 5000

	defaultOpenTime = 10.0 // seconds of a round of an open loop at most: a slow one would take hours for defaultRequests

	limitedRounds   = 2
	limitedRequests = 10
	LimitedRate     = 5.0 // calls a second to a server that nobody gave leave to load
	LimitedAtOnce   = 2   // and calls at once
)

// MaxProcesses is how many processes a command may have that a daemon is started in front of: the default of processes.max.
const MaxProcesses = 16

// usualAgents is how many agents a server that is a command has where nobody says more.
const usualAgents = 10

// scenarioOf are the scenarios. own says that it needs the scripted server.
type scenarioOf struct {
	name, title string
	own         bool
	run         func(context.Context, *lab) error
	check       func(*Options) error // why else the options do not fit; nil: they do
}

func scenarios() []scenarioOf {
	return []scenarioOf{
		{"high_throughput", "as many calls as go, 32 at once", false, highThroughput, nil},
		{"client_throughput", "1, 10, 50, 100 and 500 calls at once", false, clientThroughput, checkCounts},
		{"tool_latency", "one call after the other: a file is read, a command run, a program built; or a tool of yours", false, toolLatency, checkTools},
		{"cache", "calls of which some are made more often (Zipf), answered from the cache", true, cache, nil},
		{"coalesce", "bursts of equal calls, which go to the server once", true, coalesce, checkCoalesce},
		{"batch", "plain JSON-RPC: one by one, joined by the daemon, and in arrays", true, batch, checkEra},
		{"sessions", "connect, open a session, list the tools, leave", false, sessions, checkSessions},
		{"stdio", "ten agents of a server that is a command: cold, spare, remembered, shared", false, stdio, checkStdio},
		{"connections", "many sessions with a stream each, mostly idle", true, connections, nil},
		{"memory", "allocations of a call, and memory with 1,000 in flight", true, memory, checkEra},
		{"targets", "what fluentd-perf promises, shown: yes or no", true, targets, checkTargets},
	}
}

// checkCounts returns what would be ignored by client_throughput.
func checkCounts(o *Options) error {
	if o.Concurrency > 0 {
		return errors.New("the scenario client_throughput has numbers of calls at once of its own: leave --concurrency out")
	}
	return nil
}

// checkCoalesce returns what would be ignored by coalesce.
func checkCoalesce(o *Options) error {
	if o.Rate > 0 || o.Duration > 0 {
		return errors.New("the scenario coalesce makes --requests calls in bursts, the next one when the last is answered: leave --rate and --duration out")
	}
	return nil
}

// checkSessions returns what would be ignored by sessions.
func checkSessions(o *Options) error {
	if o.OwnTool != "" || o.Call != nil {
		return errors.New("the scenario sessions lists the tools and calls none: leave --tool out")
	}
	return nil
}

// checkTargets returns what would be ignored by targets.
func checkTargets(o *Options) error {
	if o.Requests > 0 || o.Rounds > 0 {
		return errors.New("the scenario targets has loads of its own, each once: leave --requests and --rounds out")
	}
	return checkEra(o)
}

// checkEra returns what would be ignored by a scenario with an era of its own.
func checkEra(o *Options) error {
	if o.EraGiven {
		return fmt.Errorf("the scenario %s makes its calls in one way only: leave --era out", o.Scenario)
	}
	return nil
}

// Names returns the names of all scenarios.
func Names() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// Help returns a line for each scenario.
func Help() string {
	var b strings.Builder
	for _, s := range scenarios() {
		fmt.Fprintf(&b, "  %-18s %s\n", s.name, s.title)
	}
	return b.String()
}

// find returns the scenario of the options, or why it cannot be run.
func (o *Options) find() (scenarioOf, error) {
	all := scenarios()
	at := slices.IndexFunc(all, func(s scenarioOf) bool { return s.name == o.Scenario })
	switch {
	case at < 0:
		return scenarioOf{}, fmt.Errorf("no scenario %q: there are %s", o.Scenario, strings.Join(Names(), ", "))
	case all[at].own && (o.Daemon != nil || o.Server != nil || o.Call != nil):
		return scenarioOf{}, fmt.Errorf("the scenario %s is for the benchmark's own server and daemon: leave --daemon, --server, --command and --tool out", o.Scenario)
	case all[at].own && o.NoDaemon:
		return scenarioOf{}, fmt.Errorf("the scenario %s says something of a daemon only: leave --direct out", o.Scenario)
	case all[at].check != nil:
		return all[at], all[at].check(o)
	}
	return all[at], nil
}

// Validate returns what is wrong with the options, if anything.
func (o *Options) Validate() error {
	if _, err := o.find(); err != nil {
		return err
	}
	switch {
	case math.IsNaN(o.Rate) || math.IsInf(o.Rate, 0):
		return fmt.Errorf("--rate %g is no rate", o.Rate)
	case o.Concurrency < 0 || o.Requests < 0 || o.Duration < 0 || o.Rate < 0 || o.Rounds < 0 || o.Connections < 0:
		return fmt.Errorf("a negative number makes no load")
	case o.Connections > 0 && o.Scenario != "connections" && o.Scenario != "targets":
		return fmt.Errorf("--connections is for the scenarios connections and targets")
	case o.UnixSocket && (o.NoDaemon || o.Daemon != nil):
		return fmt.Errorf("--unix-socket is for daemons that are started, and none is: leave it out")
	case o.Requests > 0 && o.Duration > 0:
		return fmt.Errorf("a round ends after a number of requests or after a duration: give one")
	case o.Duration > 0 && o.Duration < time.Millisecond:
		return fmt.Errorf("a duration of %v is too short", o.Duration)
	case o.MaxProcesses > 0 && o.Concurrency > o.MaxProcesses:
		return fmt.Errorf("the server is a command that may have %d processes (processes.max): --concurrency is at most that", o.MaxProcesses)
	}
	return nil
}

// load returns the load of one round.
func (o *Options) load(concurrency int, requests int64) loadgen.Load {
	l := loadgen.Load{Loop: loadgen.Closed, Concurrency: or(o.Concurrency, concurrency), Rate: o.Rate}
	if o.Rate > 0 {
		l.Loop, requests = loadgen.Open, max(1, int64(min(float64(requests), o.Rate*defaultOpenTime)))
		if o.Concurrency == 0 { // the loop is open as far as there are connections
			l.Concurrency = 1000
		}
	}
	if o.Limited {
		l.MaxRate = LimitedRate
		l.Concurrency, requests = or(o.Concurrency, min(concurrency, LimitedAtOnce)), limitedRequests
	}
	if o.MaxProcesses > 0 && l.Concurrency > o.MaxProcesses { // what is asked for beyond that is refused before
		l.Concurrency = min(o.MaxProcesses, usualAgents)
	}
	if l.DurationMs = o.Duration.Milliseconds(); l.DurationMs == 0 {
		l.Requests = or(o.Requests, requests)
	}
	return l
}

func (o *Options) rounds() int {
	if o.Limited {
		return or(o.Rounds, limitedRounds)
	}
	return or(o.Rounds, defaultRounds)
}

// or returns a number that was given, or the usual one.
func or[N int | int64](given, usual N) N {
	if given > 0 {
		return given
	}
	return usual
}
