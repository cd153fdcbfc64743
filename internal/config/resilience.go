package config

import "time"

// RPC bounds the arrays of calls on /rpc/<name>.
type RPC struct {
	Concurrency int           // elements of one array under way at once, times batch.max where the upstream takes arrays; 1 to 1000, default 32
	Timeout     time.Duration // of one array, above 0; default 10 min
	Answers     int64         // bytes of its answers together, 1 KiB to 1 GiB; default 64 MiB
}

// Protocol is what an upstream speaks.
type Protocol string

// The protocols: MCP, and any JSON-RPC 2.0 over HTTP, of which the daemon knows no method.
const (
	ProtocolMCP     Protocol = "mcp"
	ProtocolJSONRPC Protocol = "jsonrpc"
)

// UpstreamLimits bound how many calls of one upstream are under way and wait.
type UpstreamLimits struct {
	MaxInFlight int           // calls under way, 1 to 65,535; default 256
	Queue       int           // calls that wait, 0 to 1,000,000; default 1024
	QueueWait   time.Duration // how long one waits, above 0; default 2 s
}

// Breaker says when an endpoint is left alone.
type Breaker struct {
	Off          bool          // it never is
	Window       time.Duration // of the ratio, 1 s to 1 h; default 10 s
	MinRequests  int           // in the window, for the ratio to count, 1 to 1,000,000; default 20
	FailureRatio float64       // above 0 to 1; default 0.5
	InARow       int           // failures without a success between, 1 to 1,000,000; default 3
	SlowCall     time.Duration // a call that takes longer counts as failed; default 0, for none
}

// Retry says what is sent again.
type Retry struct {
	Max     int      // how often one call is, 0 to 10; default 2
	Budget  float64  // the share of recent requests that may be sent again, hedges included, 0 to 1; default 0.2
	Hedge   bool     // ask a second endpoint where the first takes long; default false
	Tools   []string // patterns of path.Match: tools that may be called again though they may have run; default none
	Methods []string // with ProtocolJSONRPC: patterns of path.Match, methods for which that holds; default none
}

// Sessions is about legacy sessions of one upstream.
type Sessions struct {
	Heal Heal
}

// Heal says what becomes of a session that the server has lost.
type Heal string

// HealReads opens it again, and says once that its state is gone before anything but a read goes on; HealAll is the
// operator's word that there is no state; HealOff passes the loss on.
const (
	HealReads Heal = "reads"
	HealAll   Heal = "all"
	HealOff   Heal = "off"
)

// Batch says how calls travel together as one array. The zero Batch: they do not.
type Batch struct {
	Max    int           // calls in one array, 2 to 1000; default 100 where batch is there, else 0
	Window time.Duration // how long the first one waits for others, above 0 to 1 min; default 2 ms where batch is there, else 0
}

const (
	mostEndpoints   = 64
	mostBatch       = 1000
	mostBatchWindow = time.Minute
	mostCalls       = 1_000_000
)

// resilience are the keys of an upstream about what goes wrong, and about arrays.
func (d *decoder) resilience(u *Upstream) keys {
	return keys{
		"protocol": oneOf(d, &u.Protocol, ProtocolMCP, ProtocolJSONRPC),
		"limits": d.mapping(keys{
			"max_in_flight": d.count(&u.Limits.MaxInFlight, 1, 65_535),
			"queue":         d.count(&u.Limits.Queue, 0, mostCalls),
			"queue_wait":    d.duration(&u.Limits.QueueWait),
		}),
		"breaker": d.breaker(&u.Breaker),
		"retry": d.mapping(keys{
			"max":     d.count(&u.Retry.Max, 0, 10),
			"budget":  d.share(&u.Retry.Budget, true),
			"hedge":   d.boolean(&u.Retry.Hedge),
			"tools":   d.list(d.pattern(&u.Retry.Tools)),
			"methods": d.list(d.pattern(&u.Retry.Methods)),
		}),
		"sessions": d.mapping(keys{"heal": oneOf(d, &u.Sessions.Heal, HealReads, HealAll, HealOff)}),
		"batch":    d.batch(&u.Batch),
	}
}

func (d *decoder) rpc(r *RPC) reader {
	return d.mapping(keys{
		"concurrency": d.count(&r.Concurrency, 1, mostBatch),
		"timeout":     d.duration(&r.Timeout),
		"answers":     d.size(&r.Answers, leastSize, mostSize),
	})
}

// breaker reads a mapping, or off.
func (d *decoder) breaker(b *Breaker) reader {
	read := d.mapping(keys{
		"window":        d.durationIn(&b.Window, time.Second, time.Hour),
		"min_requests":  d.count(&b.MinRequests, 1, mostCalls),
		"failure_ratio": d.share(&b.FailureRatio, false),
		"in_a_row":      d.count(&b.InARow, 1, mostCalls),
		"slow_call":     d.durationOrZero(&b.SlowCall),
	})
	return func(at key, n *node) {
		switch {
		case n.kind == kindText && n.text == "off", n.kind == kindBoolean && n.text == "false":
			b.Off = true
		case n.kind == kindText || n.kind == kindBoolean:
			d.fault(at, "must be a mapping or off")
		default:
			read(at, n)
		}
	}
}

func (d *decoder) batch(b *Batch) reader {
	read := d.mapping(keys{
		"max":    d.count(&b.Max, 2, mostBatch),
		"window": d.durationIn(&b.Window, aboveZero, mostBatchWindow),
	})
	return func(at key, n *node) {
		*b = Batch{Max: 100, Window: 2 * time.Millisecond}
		read(at, n)
	}
}

// checkProtocol says what means nothing with the upstream's protocol.
func (d *decoder) checkProtocol(at key, u *Upstream) {
	if u.Protocol == ProtocolMCP {
		d.refuse(d.at(at, "retry"), "means nothing with protocol mcp: what may be sent again goes by the method, and by tools", "methods")
		return
	}
	const why = "means nothing with protocol jsonrpc, which has no MCP in it"
	d.refuse(at, why, "transport", "oauth", "streams", "sessions", "coalesce")
	d.refuse(d.at(at, "cache"), why, "tools", "flush_on_call", "listen", "scope")
	d.refuse(d.at(at, "retry"), why, "tools")
}

// checkRetry wants a second endpoint for a second call.
func (d *decoder) checkRetry(at key, u *Upstream) {
	if u.Retry.Hedge && len(u.URLs) == 1 && d.sound(at, "url") && d.sound(at, "urls") {
		d.fault(d.at(at, "retry", "hedge"), "needs several urls: the second call goes to another server")
	}
}
