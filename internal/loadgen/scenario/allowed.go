package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/mcp"
)

// OnThisMachine reports whether a host, a name or an IP address, is this machine: every address that it has is one of loopback or of
// an interface. A name that is not known is an error.
func OnThisMachine(ctx context.Context, host string) (bool, error) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	addresses := []netip.Addr{}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addresses = append(addresses, ip)
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return false, err
	}
	for _, a := range addresses {
		if !isOwn(a.Unmap().WithZone(""), own) {
			return false, nil
		}
	}
	return len(addresses) > 0, nil
}

func isOwn(a netip.Addr, own []net.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(own, func(one net.Addr) bool {
		prefix, err := netip.ParsePrefix(one.String())
		return err == nil && prefix.Addr().Unmap().WithZone("") == a
	})
}

// DetectEra returns the era in which a target answers: modern where it knows server/discover, else legacy where a session can be
// opened.
func DetectEra(ctx context.Context, t *loadgen.Target) (mcp.Era, error) {
	modern := discovers(ctx, t.With(mcp.EraModern))
	if modern == nil {
		return mcp.EraModern, nil
	}
	if ctx.Err() != nil {
		return mcp.EraModern, context.Cause(ctx)
	}
	legacy := opens(ctx, t.With(mcp.EraLegacy))
	if legacy == nil {
		return mcp.EraLegacy, nil
	}
	return mcp.EraModern, fmt.Errorf("it answers neither in 2026-07-28 (%w) nor in 2025-11-25 (%w)", modern, legacy)
}

// IsDaemon reports whether who answers at a target is a daemon of this program, as far as the answers tell. It asks as slowly as one asks
// a server that is limited.
func IsDaemon(ctx context.Context, t *loadgen.Target) bool {
	modern := t.With(mcp.EraModern)
	modern.Limit = loadgen.NewLimiter(LimitedRate)
	p := loadgen.NewClients(modern)
	defer p.Close(ctx)
	if _, err := p.Ask(ctx, discover); err == nil || p.Cached() {
		return p.Cached()
	}
	legacy := loadgen.NewClients(modern.With(mcp.EraLegacy))
	defer legacy.Close(ctx)
	_ = legacy.Open(ctx, 1) // who does not answer is none
	return legacy.Cached()
}

// discover is what every server of 2026-07-28 answers.
var discover = loadgen.Kind{Name: "server/discover", Method: "server/discover"}

// silence is how long a command may take to answer server/discover. Some that are legacy never do (2026-07-28, basic/transports, stdio).
const silence = 10 * time.Second

func discovers(ctx context.Context, t *loadgen.Target) error {
	if t.Command != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, silence)
		defer cancel()
	}
	_, err := askOnce(ctx, t, discover)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer to server/discover within %v", silence)
	}
	return err
}

// opens opens a session, and leaves.
func opens(ctx context.Context, t *loadgen.Target) error {
	p := loadgen.NewClients(t)
	defer p.Close(ctx)
	return p.Open(ctx, 1)
}

// askOnce makes one call over a connection of its own, and leaves.
func askOnce(ctx context.Context, t *loadgen.Target, k loadgen.Kind) ([]byte, error) {
	p := loadgen.NewClients(t)
	defer p.Close(ctx)
	return p.Ask(ctx, k)
}

// Choice is the call that a user wants to be made.
type Choice struct {
	Tool      string // "": none, but the list of tools
	Arguments string // a JSON object; "": they have to be made up
	Generate  bool   // they may be, whatever the tool says of itself
}

// ErrArguments is the error of a Choice for which arguments would have to be made up, and may not be.
var ErrArguments = errors.New("no arguments for the tool")

// Validate returns what would be ignored, if anything.
func (c Choice) Validate() error {
	switch {
	case c.Tool == "" && (c.Arguments != "" || c.Generate):
		return errors.New("--arguments and --generate-arguments are for --tool")
	case c.Arguments != "" && c.Generate:
		return errors.New("--generate-arguments has arguments made up, and --arguments gives them: leave one out")
	}
	return nil
}

// Kind returns the call of a Choice. Where arguments are made up, the target is asked for its tools: only a tool that says that it
// reads only is called with such, unless Generate says otherwise.
func (c Choice) Kind(ctx context.Context, t *loadgen.Target) (loadgen.Kind, error) {
	switch {
	case c.Tool == "":
		return loadgen.List(), nil
	case c.Arguments != "":
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.Arguments), &object); err != nil || object == nil {
			return loadgen.Kind{}, fmt.Errorf("--arguments is no JSON object: %s", c.Arguments)
		}
		return loadgen.ToolCall(c.Tool, c.Arguments), nil
	}
	tool, err := findTool(ctx, t, c.Tool)
	if err != nil {
		return loadgen.Kind{}, err
	}
	var schema inputSchema
	if err := json.Unmarshal(tool.InputSchema, &schema); err != nil {
		return loadgen.Kind{}, fmt.Errorf("the inputSchema of the tool %s: %w", c.Tool, err)
	}
	if !tool.Annotations.ReadOnlyHint && !c.Generate && !takesNone(tool.InputSchema) {
		return loadgen.Kind{}, fmt.Errorf("%w %s: it does not say that it only reads, so give --arguments, or --generate-arguments to have some made up", ErrArguments, c.Tool)
	}
	arguments, err := json.Marshal(schema.object(0))
	return loadgen.ToolCall(c.Tool, string(arguments)), err
}

// takesNone reports whether a schema is that of a tool without arguments: an object, of which nothing else is said that could ask for
// any. What another keyword asks for, as $ref or anyOf, is not looked for: with one, the tool may take some.
func takesNone(schema json.RawMessage) bool {
	var keywords map[string]any
	if json.Unmarshal(schema, &keywords) != nil || keywords["type"] != "object" {
		return false
	}
	for name, value := range keywords {
		ok := false
		switch name {
		case "type", "$schema", "$comment", "title", "description":
			ok = true
		case "properties":
			properties, is := value.(map[string]any)
			ok = is && len(properties) == 0
		case "required":
			list, is := value.([]any)
			ok = is && len(list) == 0
		case "additionalProperties":
			_, ok = value.(bool)
		}
		if !ok {
			return false
		}
	}
	return true
}

// listedTool is what of a tool in tools/list matters here.
type listedTool struct {
	Name        string
	InputSchema json.RawMessage
	Annotations struct{ ReadOnlyHint bool }
}

// maxPages is how many pages of a list are read.
const maxPages = 50

// findTool looks for a tool in all pages of tools/list.
func findTool(ctx context.Context, t *loadgen.Target, name string) (listedTool, error) {
	p := loadgen.NewClients(t)
	defer p.Close(ctx)
	var names []string
	k := loadgen.List()
	for range maxPages {
		result, err := p.Ask(ctx, k)
		if err != nil {
			return listedTool{}, err
		}
		var page struct {
			Tools      []listedTool
			NextCursor string
		}
		if err := json.Unmarshal(result, &page); err != nil {
			return listedTool{}, fmt.Errorf("tools/list: %w", err)
		}
		for _, tool := range page.Tools {
			if tool.Name == name {
				return tool, nil
			}
			names = append(names, tool.Name)
		}
		if page.NextCursor == "" {
			break
		}
		cursor, _ := json.Marshal(page.NextCursor) // a string is never refused
		k.Params = `"cursor":` + string(cursor)
	}
	return listedTool{}, fmt.Errorf("the server has no tool %q; it has %s", name, strings.Join(names, ", "))
}

// inputSchema is the part of JSON Schema by which arguments are made up.
type inputSchema struct {
	Type       any // a name, or a list of them
	Properties map[string]inputSchema
	Required   []string
	Items      *inputSchema
	Enum       []any
	Const      any
	Default    any
	Examples   []any
	Minimum    *float64
	MinLength  int
	MinItems   int
}

// Bounds of what is made up.
const (
	maxDepth  = 8
	maxLength = 1000
)

// example returns the smallest value that the schema is likely to take. What it must have is there, and nothing else.
func (s inputSchema) example(depth int) any {
	switch {
	case s.Const != nil:
		return s.Const
	case s.Default != nil:
		return s.Default
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.typeName() {
	case "object":
		return s.object(depth)
	case "array":
		return s.array(depth)
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return false
	case "null":
		return nil
	}
	return "benchmark" + strings.Repeat("x", min(max(0, s.MinLength-len("benchmark")), maxLength))
}

func (s inputSchema) object(depth int) map[string]any {
	object := make(map[string]any)
	if depth == maxDepth {
		return object
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(s.Required))) {
		object[name] = s.Properties[name].example(depth + 1)
	}
	return object
}

func (s inputSchema) array(depth int) []any {
	list := []any{}
	if s.Items == nil || depth == maxDepth {
		return list
	}
	for range min(s.MinItems, maxLength) {
		list = append(list, s.Items.example(depth+1))
	}
	return list
}

// typeName returns the type, the first one that is not null where there are several. An object is known by its properties as well.
func (s inputSchema) typeName() string {
	switch t := s.Type.(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if name, ok := one.(string); ok && name != "null" {
				return name
			}
		}
	}
	if len(s.Properties) > 0 {
		return "object"
	}
	return ""
}
