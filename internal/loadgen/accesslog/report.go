package accesslog

import "time"

// SchemaID is the `$schema` of a Report. Its number changes when a program that reads reports would misread one.
const SchemaID = "urn:fluentd-perf:benchmark-log:1"

// Report is what a log came to: what `benchmark --from-log FILE -o json` prints.
type Report struct {
	Schema  string    `json:"$schema" jsonschema:"the version of this format: urn:fluentd-perf:benchmark-log:1"`
	From    time.Time `json:"from,omitzero" jsonschema:"the earliest begin of a request"`
	To      time.Time `json:"to,omitzero" jsonschema:"the latest end of one"`
	Lines   int64     `json:"lines" jsonschema:"access lines"`
	Others  int64     `json:"others" jsonschema:"lines that are none"`
	TooLong int64     `json:"tooLong,omitempty" jsonschema:"of them too long to be one"`
	Servers []Server  `json:"servers" jsonschema:"in the order of their names"`
	Notes   []string  `json:"notes"`
}

// Server is what the calls to one server came to. Seconds are those that agents waited, or the server took, added up.
type Server struct {
	Name    string  `json:"name" jsonschema:"of the upstream; (others) are those beyond the first 1,000"`
	Calls   int64   `json:"calls" jsonschema:"requests and notifications; no streams, arrays and answers to the server"`
	Failed  int64   `json:"failed" jsonschema:"of them, those that did not go well"`
	Seconds float64 `json:"seconds" jsonschema:"that agents waited for them"`

	Hits         int64   `json:"hits" jsonschema:"answered from the cache"`
	Collapsed    int64   `json:"collapsed" jsonschema:"answered by an equal call under way"`
	SavedSeconds float64 `json:"savedSeconds" jsonschema:"that the server would have taken for both, by its mean for the same method and tool in this log"`

	Possible        Possible `json:"possible" jsonschema:"went to the server, and need not have: at most"`
	Handshakes      int64    `json:"handshakes" jsonschema:"initialize, server/discover and notifications/initialized that went to the server"`
	HandshakeTime   float64  `json:"handshakeSeconds"`
	Connections     int64    `json:"connections" jsonschema:"calls for which a connection was opened"`
	ConnectSeconds  float64  `json:"connectSeconds" jsonschema:"that they waited for it"`
	DeadSessions    int64    `json:"deadSessions" jsonschema:"calls that learned that their session is gone: 404, session_restarted or session_lost"`
	DeadSessionTime float64  `json:"deadSessionSeconds" jsonschema:"that they took"`
}

// Possible is what could have been saved at most, because bodies are not in the log. The three exclude each other.
type Possible struct {
	ListHits       int64   `json:"listHits" jsonschema:"lists that had been answered for the same agent, with the same sizes, in the 5 minutes before"`
	ReadHits       int64   `json:"readHits" jsonschema:"the same of resources/read, which the cache may keep where the server or cache.ttl says so"`
	ToolHits       int64   `json:"toolHits" jsonschema:"the same of tools/call, by tool: only where cache.tools names the tool"`
	Coalescable    int64   `json:"coalescable" jsonschema:"calls while one that looks equal was under way"`
	ListSeconds    float64 `json:"listSeconds" jsonschema:"that the server took for them"`
	ReadSeconds    float64 `json:"readSeconds"`
	ToolSeconds    float64 `json:"toolSeconds"`
	CoalescSeconds float64 `json:"coalescableSeconds"`
}

// Calls returns how many calls they are together.
func (p *Possible) Calls() int64 { return p.ListHits + p.ReadHits + p.ToolHits + p.Coalescable }

// Seconds returns how long the server took for them together.
func (p *Possible) Seconds() float64 {
	return p.ListSeconds + p.ReadSeconds + p.ToolSeconds + p.CoalescSeconds
}

// notes say what the figures are worth.
var notes = []string{
	"Hits, collapsed calls, handshakes, connections and dead sessions are what happened. Connections are known only where the log has connect_ms.",
	"The log has no bodies: calls count as equal where server, method, tool, agent and the sizes of request and answer are. What is possible is an upper bound.",
	"Sessions that the daemon opened again behind an agent's back have no access line of their own, and are not counted as dead.",
}
