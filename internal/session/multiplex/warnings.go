package multiplex

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/mcp"
)

// maxLogged is how much of a log message of the server's stands in the daemon's log, in bytes.
const maxLogged = 1 << 10

// warned says what the log has already.
type warned struct {
	tools atomic.Bool
	asked sync.Map // methods
}

// askedOfClients are the methods of servers that a client may declare (2025-11-25, basic/lifecycle, "Capability Negotiation").
var askedOfClients = []string{"roots/list", "sampling/createMessage", "elicitation/create"}

// stateWords are words in names of commands, packages and tools of which servers speak that keep something open for one client.
var stateWords = []string{
	"browser", "page", "tab", "editor", "terminal", "memory", "process",
	"playwright", "puppeteer", "selenium", "chrome", "chromium", "firefox", "shell", // browsers and terminals by other names
}

// word is a part of a name: letters of one case, or with a capital in front.
var word = regexp.MustCompile(`\p{Lu}?\p{Ll}+|\p{Lu}+`)

// StateWord returns the word in a name that speaks of something which a server keeps open for one client, such as a browser; "" where
// there is none. It is a hint, and says nothing for certain.
func StateWord(name string) string {
	for _, one := range word.FindAllString(name, -1) {
		one = strings.ToLower(one)
		for _, of := range []string{one, strings.TrimSuffix(one, "s"), strings.TrimSuffix(one, "es")} {
			if slices.Contains(stateWords, of) {
				return of
			}
		}
	}
	return ""
}

// seesTools looks at the first list of tools that passes.
func (x *Multiplexer) seesTools(take func([]byte, *mcp.Message)) func([]byte, *mcp.Message) {
	if x.warned.tools.Load() {
		return take
	}
	return func(data []byte, m *mcp.Message) {
		if m.Kind == mcp.KindResult && x.warned.tools.CompareAndSwap(false, true) {
			x.warnTools(m.Result.Of(data))
		}
		take(data, m)
	}
}

// warnTools says which tools speak of what a server keeps for one client.
func (x *Multiplexer) warnTools(result []byte) {
	var list struct{ Tools []struct{ Name string } }
	if json.Unmarshal(result, &list) != nil {
		return
	}
	var named []string
	for _, tool := range list.Tools {
		if StateWord(tool.Name) != "" && len(named) < 5 {
			named = append(named, cut(tool.Name, 64))
		}
	}
	if len(named) > 0 {
		x.opts.Log.Warn("the names of tools speak of what a server keeps for one client; all sessions share it (sessions: shared)",
			"upstream", x.opts.Upstream, "tools", strings.Join(named, ", "))
	}
}

// warnAsked says that a server asks its client for something. One that needs it is not to be shared, or is to be told directories by
// its arguments.
func (x *Multiplexer) warnAsked(data []byte, m *mcp.Message) {
	name, _ := mcp.Text(m.MethodName.Of(data))
	if !slices.Contains(askedOfClients, name) {
		return
	}
	if _, said := x.warned.asked.LoadOrStore(name, true); !said {
		x.opts.Log.Warn("a server asks its client, which nobody can answer for several sessions (sessions: shared)", "upstream", x.opts.Upstream, "method", name)
	}
}

// logDropped writes to the log what no session may have: a log message whole, of others their name.
func (x *Multiplexer) logDropped(name string, data []byte, m *mcp.Message) {
	if !x.opts.Log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if name != logged {
		x.opts.Log.Debug("a shared stdio server's notification has no session to go to", "upstream", x.opts.Upstream, "method", cut(name, 64))
		return
	}
	x.opts.Log.Debug("a shared stdio server's log message", "upstream", x.opts.Upstream, "message", cut(x.opts.Mask(string(m.Params.Of(data))), maxLogged))
}

// cut shortens a text.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
