package loadgen

import "time"

// SchemaID is the `$schema` of a Report. Its number changes when a program that reads reports would misread one.
const SchemaID = "urn:fluentd-perf:benchmark:1"

// Report is what a benchmark came to: what `benchmark -o json` prints. Times are in microseconds where a name ends in Us, in
// milliseconds where it ends in Ms; a figure that is not known is left out.
type Report struct {
	Schema   string    `json:"$schema" jsonschema:"the version of this format: urn:fluentd-perf:benchmark:1"`
	Scenario string    `json:"scenario" jsonschema:"what was measured: the value of --scenario"`
	Program  Program   `json:"program" jsonschema:"the program that made the calls"`
	Machine  Machine   `json:"machine" jsonschema:"where it ran"`
	Started  time.Time `json:"started"`
	TookMs   int64     `json:"tookMs" jsonschema:"the whole benchmark, milliseconds"`
	Ceiling  []Ceiling `json:"ceiling,omitempty" jsonschema:"what the generator itself can do, by calls at once"`
	Runs     []Run     `json:"runs" jsonschema:"one for each load"`
	Goals    []Goal    `json:"goals,omitempty" jsonschema:"what was promised and what came of it: the scenario targets"`
	Notes    []string  `json:"notes,omitempty" jsonschema:"what a reader should know, in sentences"`
}

// Program is what made the calls, or a daemon.
type Program struct {
	Version  string `json:"version"`
	Go       string `json:"go,omitempty" jsonschema:"version of Go that built it"`
	Platform string `json:"platform,omitempty" jsonschema:"as linux/amd64"`
}

// Machine is where a benchmark ran.
type Machine struct {
	OS       string    `json:"os"`
	Kernel   string    `json:"kernel,omitempty"`
	CPU      string    `json:"cpu,omitempty" jsonschema:"model of the first one"`
	CPUs     int       `json:"cpus" jsonschema:"that the program may use"`
	Governor string    `json:"governor,omitempty" jsonschema:"of the first one's frequency"`
	Memory   int64     `json:"memory,omitempty" jsonschema:"bytes"`
	LoadAvg  []float64 `json:"loadAverage,omitempty" jsonschema:"over 1, 5 and 15 minutes, at the start"`
}

// Ceiling is what the generator can do over the scripted server, with nothing between them.
type Ceiling struct {
	Concurrency int     `json:"concurrency" jsonschema:"calls at once"`
	PerSecond   float64 `json:"perSecond"`
	CPUUs       float64 `json:"generatorCPUUs,omitempty" jsonschema:"the generator's CPU for a call, microseconds"`
}

// Run is one load, put on each of the targets in every round. The order of the targets is turned round in every other round, so that
// a slow moment of the machine meets all of them.
type Run struct {
	Name     string   `json:"name" jsonschema:"as 32 at once; unique within the report"`
	Load     Load     `json:"load"`
	Targets  []Result `json:"targets"`
	Ratios   []Ratio  `json:"ratios,omitempty" jsonschema:"of targets to each other, round by round"`
	Valid    bool     `json:"valid" jsonschema:"no problem below"`
	Problems []string `json:"problems,omitempty" jsonschema:"why the figures are not to be used, in sentences"`
}

// Role is what a target is in a comparison.
type Role string

// The roles.
const (
	RoleDirect Role = "direct" // the server, with nothing in between
	RoleDaemon Role = "daemon" // the server through a daemon
	RoleAgain  Role = "again"  // the same build as RoleDaemon once more (A/A): what differs between them is noise
)

// Result is what one target's rounds came to.
type Result struct {
	Name      string   `json:"name" jsonschema:"unique within the run"`
	Role      Role     `json:"role" jsonschema:"direct: the server; daemon: through a daemon; again: the same build once more"`
	Era       string   `json:"era" jsonschema:"legacy, modern or plain"`
	Transport string   `json:"transport" jsonschema:"tcp, tls, unix or stdio"`
	Program   *Program `json:"program,omitempty" jsonschema:"the daemon, where that is known"`
	Rounds    []Round  `json:"rounds"`
	Sum       Round    `json:"sum" jsonschema:"all rounds together"`

	Streams *StreamCounts `json:"streams,omitempty" jsonschema:"sessions with a stream each that were open meanwhile"`
}

// StreamCounts are the idle sessions of a target, with a stream each.
type StreamCounts struct {
	Wanted    int   `json:"wanted"`
	Opened    int   `json:"opened"`
	Alive     int   `json:"alive" jsonschema:"still open after the last round"`
	RSSBefore int64 `json:"rssBefore,omitempty" jsonschema:"resident bytes of the target's process before they were opened"`
	RSSAfter  int64 `json:"rssAfter,omitempty" jsonschema:"and when all were open"`
}

// BytesEach returns what of the process's memory one takes; 0 where that is not known.
func (c *StreamCounts) BytesEach() int64 {
	if c.Opened == 0 || c.RSSBefore == 0 {
		return 0
	}
	return max(0, c.RSSAfter-c.RSSBefore) / int64(c.Opened)
}

// Round is one load on one target, or the sum of several.
type Round struct {
	Round      int              `json:"round" jsonschema:"which, from 1; 0 in a sum"`
	Seconds    float64          `json:"seconds" jsonschema:"from the first send to the last answer"`
	Requests   int64            `json:"requests" jsonschema:"calls that were made"`
	Succeeded  int64            `json:"succeeded"`
	Failed     int64            `json:"failed"`
	Faults     map[string]int64 `json:"faults,omitempty" jsonschema:"failed calls by reason"`
	FirstFault string           `json:"firstFault,omitempty" jsonschema:"the first one, in words"`
	Late       int64            `json:"late" jsonschema:"calls of an open loop that were sent more than 10 ms after they were meant to be"`
	Dropped    int64            `json:"dropped" jsonschema:"calls of an open loop that were not sent before its end"`
	PerSecond  float64          `json:"perSecond" jsonschema:"answers that are right"`
	Opened     int64            `json:"connectionsOpened" jsonschema:"by the generator, during the round"`

	Cache    CacheCounts `json:"cache" jsonschema:"right answers by what Cache-Status says of them"`
	Service  *Latency    `json:"service,omitempty" jsonschema:"from the send to the whole answer"`
	Intended *Latency    `json:"intended,omitempty" jsonschema:"from when the call was meant to be sent; only in an open loop, in a closed one it is the same"`
	Hits     *Latency    `json:"hits,omitempty" jsonschema:"service time of answers from the cache and of those that shared another call's"`
	Misses   *Latency    `json:"misses,omitempty" jsonschema:"service time of the others, where there is a daemon"`
	Kinds    []KindRound `json:"kinds,omitempty" jsonschema:"by what was called, where that is more than one thing"`

	Process   *Usage        `json:"process,omitempty" jsonschema:"the target's process; that of the server where it is direct"`
	Generator *Usage        `json:"generator,omitempty" jsonschema:"the generator's"`
	Server    *ServerCounts `json:"server,omitempty" jsonschema:"what the scripted server saw"`

	Processes *ProcessCounts `json:"processes,omitempty" jsonschema:"of a server that is a command, with agents that keep their sessions; in a sum the most of each"`
	Curve     []Point        `json:"curve,omitempty" jsonschema:"the counts over time"`
}

// CacheCounts are right answers by what this daemon's member of Cache-Status (RFC 9211) says.
type CacheCounts struct {
	Hits      int64 `json:"hits"`
	Collapsed int64 `json:"collapsed" jsonschema:"another call's answer"`
	Misses    int64 `json:"misses" jsonschema:"forwarded to the server"`
	None      int64 `json:"none" jsonschema:"without the header, as from a server directly"`
}

// HitShare returns which part of the answers was not the server's to give, 0 to 1.
func (c CacheCounts) HitShare() float64 {
	all := c.Hits + c.Collapsed + c.Misses + c.None
	if all == 0 {
		return 0
	}
	return float64(c.Hits+c.Collapsed) / float64(all)
}

// Latency is a distribution of times in microseconds. HDR is all of it: a histogram of nanoseconds in HdrHistogram's V2 compressed
// encoding, base64, as its libraries in many languages read it.
type Latency struct {
	Count int64   `json:"count"`
	Min   float64 `json:"minUs"`
	Mean  float64 `json:"meanUs"`
	P50   float64 `json:"p50Us"`
	P90   float64 `json:"p90Us"`
	P95   float64 `json:"p95Us"`
	P99   float64 `json:"p99Us"`
	P999  float64 `json:"p999Us"`
	Max   float64 `json:"maxUs"`
	HDR   string  `json:"hdr" jsonschema:"HdrHistogram V2 compressed, base64; values in nanoseconds, 3 significant digits"`
}

// KindRound is what one kind of call came to. A part is a step of another kind and counts in no sum.
type KindRound struct {
	Name    string      `json:"name"`
	Part    bool        `json:"part,omitempty" jsonschema:"a step of another kind"`
	Cache   CacheCounts `json:"cache"`
	Service *Latency    `json:"service,omitempty"`
}

// Usage is what a process took during a round.
type Usage struct {
	CPUUs      float64 `json:"cpuUs" jsonschema:"user and system time for a call, microseconds"`
	CPUSeconds float64 `json:"cpuSeconds" jsonschema:"user and system time in all"`
	RSS        int64   `json:"rss,omitempty" jsonschema:"resident bytes at the end of the round"`
	PeakRSS    int64   `json:"peakRss,omitempty" jsonschema:"the most that was seen during the round, bytes"`
	Allocs     float64 `json:"allocs,omitempty" jsonschema:"objects allocated for a call; only of a daemon that shows its /metrics"`
	AllocBytes float64 `json:"allocBytes,omitempty" jsonschema:"bytes allocated for a call, the same"`
}

// ServerCounts are what the scripted server saw during a round.
type ServerCounts struct {
	Posts       int64 `json:"posts" jsonschema:"HTTP requests with a body"`
	Calls       int64 `json:"calls" jsonschema:"JSON-RPC requests in them"`
	Connections int64 `json:"connections" jsonschema:"that it accepted"`
	MaxBatch    int64 `json:"maxBatch" jsonschema:"calls in the largest array of the round; in a sum of any round"`
}

// ProcessCounts are the processes of a server that is a command, with what they have started, at two times of a round. Memory is
// proportional (PSS): of pages that several processes share each has its part. It is 0 where it cannot be read.
type ProcessCounts struct {
	Listed    int   `json:"listed" jsonschema:"processes when all agents had their first list"`
	ListedPSS int64 `json:"listedPss,omitempty" jsonschema:"bytes of them"`
	Called    int   `json:"called,omitempty" jsonschema:"processes when all agents had the answer to their first call"`
	CalledPSS int64 `json:"calledPss,omitempty" jsonschema:"bytes of them"`
	DaemonPSS int64 `json:"daemonPss,omitempty" jsonschema:"bytes of the daemon and its guard at the later time"`
}

// Point is the counts of a round at one time.
type Point struct {
	AtMs   int64 `json:"atMs" jsonschema:"since the round's start"`
	Done   int64 `json:"done" jsonschema:"calls answered so far, right or wrong"`
	Failed int64 `json:"failed" jsonschema:"of them wrong"`
}

// Ratio is how a target does beside another, from the figures of the same rounds.
type Ratio struct {
	Figure  string    `json:"figure" jsonschema:"perSecond, p50, p99, cpu, allocs or allocBytes"`
	Of      string    `json:"of" jsonschema:"name of a target"`
	To      string    `json:"to" jsonschema:"name of the target it is divided by"`
	Median  float64   `json:"median" jsonschema:"of the rounds' own ratios"`
	Low     float64   `json:"low" jsonschema:"lower end of the interval that holds the ratio with 99 %; 0 of a single round"`
	High    float64   `json:"high" jsonschema:"its upper end; 0 of a single round"`
	Rounds  []float64 `json:"rounds" jsonschema:"each round's ratio, in their order"`
	Noise   float64   `json:"noise,omitempty" jsonschema:"how far the same build is from itself, in its farthest round or at the end of the 99 % interval, whichever is more: 0.05 is 5 % in either direction"`
	Claimed bool      `json:"claimed" jsonschema:"the difference is larger than the noise and its own interval; never where no A/A was run"`
}

// Goal is one promise of the scenario targets.
type Goal struct {
	Name    string   `json:"name"`
	Wanted  float64  `json:"wanted"`
	Got     float64  `json:"got"`
	Again   *float64 `json:"again,omitempty" jsonschema:"the same of the same build again: how far it is from got is the noise"`
	Unit    string   `json:"unit"`
	AtMost  bool     `json:"atMost" jsonschema:"got may be wanted at most; else at least"`
	Met     bool     `json:"met" jsonschema:"by got, and by again where there is one"`
	Unknown bool     `json:"unknown,omitempty" jsonschema:"got or again could not be read, and stands for nothing: it is not met"`
	Detail  string   `json:"detail,omitempty" jsonschema:"of got"`
}

// Judge sets whether a goal is met, both times where it was tried twice. One that is not known is not.
func (g *Goal) Judge() {
	g.Met = !g.Unknown && g.meets(g.Got) && (g.Again == nil || g.meets(*g.Again))
}

func (g *Goal) meets(got float64) bool {
	if g.AtMost {
		return got <= g.Wanted
	}
	return got >= g.Wanted
}
