package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// usualLimit is the default of pool.max_connections and limits.max_in_flight. Only what needs more is given more.
const usualLimit = 256

// config is the configuration of a daemon in front of the scripted server: the same server under several names, for what the
// scenarios need. All that is not said here is as it is for everybody.
func (l *lab) config(concurrency int) string {
	server := "http://" + l.server.address
	limits := limitsFor(concurrency)
	return "upstreams:\n" +
		fmt.Sprintf("  mcp: {url: %q%s}\n", server+"/mcp", limits) +
		fmt.Sprintf("  session: {url: %q%s}\n", server+"/session", limits) +
		fmt.Sprintf("  cached: {url: %q, cache: {tools: {small: 10m}}%s}\n", server+"/mcp", limits) +
		fmt.Sprintf("  coalesced: {url: %q, coalesce: {tools: [wait]}%s}\n", server+"/mcp", limits) +
		fmt.Sprintf("  single: {url: %q, protocol: jsonrpc%s}\n", server+"/rpc", limits) +
		fmt.Sprintf("  joined: {url: %q, protocol: jsonrpc, batch: {max: 100, window: 2ms}%s}\n", server+"/rpc", limits)
}

// limitsFor lets so many calls be under way at once, where that is more than usual.
func limitsFor(concurrency int) string {
	if concurrency <= usualLimit {
		return ""
	}
	return fmt.Sprintf(", pool: {max_connections: %d}, limits: {max_in_flight: %d}", concurrency, concurrency)
}

// serverConfig is the configuration of a daemon in front of the user's server.
func (o *Options) serverConfig(concurrency int) (string, error) {
	t := o.Server.Target
	if t.Command != nil {
		at, err := os.Getwd() // where the command starts directly as well
		if err != nil {
			return "", err
		}
		c := command{Args: t.Command.Args, Directory: at, InheritEnv: o.InheritEnv, OnlyCalls: o.Limited}
		return inheritPath + "upstreams:\n  server: " + c.yaml() + "\n", nil
	}
	more := limitsFor(concurrency)
	if o.Limited {
		more += onlyCalls
	}
	scheme := "http"
	if t.TLS != nil {
		scheme = "https"
	}
	return fmt.Sprintf("upstreams:\n  server: {url: %s%s}\n", quote(scheme+"://"+t.Host+t.Path), more), nil
}

// onlyCalls has a daemon send nothing of its own accord: what bounds the load on a server that nobody gave leave to load bounds the
// calls to the daemon, which so are all that the server gets.
const onlyCalls = ", cache: {listen: off}, retry: {max: 0}, sessions: {heal: off}"

// inheritPath has commands be found as this program finds them.
const inheritPath = "processes: {path: inherit}\n"

// command is an upstream that is a command. What is not said is as it is for everybody.
type command struct {
	Args       []string
	Directory  string
	InheritEnv []string
	Shared     bool
	OnlyCalls  bool
	Processes  map[string]any // keys of `processes`
}

// yaml returns it as a mapping in one line.
func (c *command) yaml() string {
	text := "{command: " + quote(c.Args) + ", cwd: " + quote(c.Directory)
	if len(c.InheritEnv) > 0 {
		text += ", inherit_env: " + quote(c.InheritEnv)
	}
	if c.Shared {
		text += ", sessions: shared"
	}
	if len(c.Processes) > 0 {
		text += ", processes: " + quote(c.Processes)
	}
	if c.OnlyCalls { // a process may call another server as it starts
		text += onlyCalls + ", processes: {warm: 0}"
	}
	return text + "}"
}

// quote returns a value as JSON, which YAML reads, so that a daemon's configuration has it as it is: a dollar sign there is written
// twice.
func quote(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("a bug: %T cannot be written as JSON: %v", value, err))
	}
	return strings.ReplaceAll(string(text), "$", "$$")
}
