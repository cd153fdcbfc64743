package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
	"mvdan.cc/sh/v3/syntax"
)

// String returns the program, and whether there are arguments: what `${...}` stood for in them may be secret.
func (s Stdio) String() string {
	if len(s.Command) > 1 {
		return quoteMeta(s.Command[0]) + " …"
	}
	return quoteMeta(strings.Join(s.Command, ""))
}

var urlInWord = regexp.MustCompile(`(?i)https?://[^\s'"]+`)

// URLHosts returns the hosts of the URLs among the words of a command, which may be a bridge to servers there. Of what cannot be read it
// returns what stands where the host should; a user and a password are left out.
func URLHosts(words []string) (hosts []string) {
	for _, word := range words {
		for _, address := range urlInWord.FindAllString(word, -1) {
			if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
				hosts = append(hosts, u.Hostname())
				continue
			}
			_, host, _ := strings.Cut(address, "://")
			host, _, _ = strings.Cut(host, "/")
			hosts = append(hosts, host[strings.LastIndexByte(host, '@')+1:])
		}
	}
	return hosts
}

// Format writes String, whatever the verb is.
func (s Stdio) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is String, for encoding/json and log/slog.
func (s Stdio) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// words are a command of an upstream.
func words(u *Upstream) kind[[]string] {
	return kind[[]string]{"list of texts", func(at key, n *yaml.Node, _ *[]string) { u.readCommand(at, n, key.expandYAML) },
		func(s *jsonschema.Schema) {
			s.Type, s.Items, s.MinItems = "array", made(ofType("string")), jsonschema.Ptr(1)
		}}
}

func (u *Upstream) readCommand(at key, n *yaml.Node, expand func(key, *yaml.Node) (string, bool)) {
	if shapeOf(n) == isText {
		at.fault("must be a list of the program and its arguments, as [npx, -y, package]")
		return
	}
	var command, written []string
	at.items(n, func(at key, n *yaml.Node) {
		if word, ok := expand(at, n); ok && at.accepts(wrongWord(word)) {
			command, written = append(command, word), append(written, n.Value)
		}
	})
	if shapeOf(n) == isList && (len(n.Content) == 0 || len(command) > 0 && command[0] == "") {
		at.fault("must name a program")
	}
	u.setCommand(command, written)
}

// setCommand takes a command that is shown as it is written.
func (u *Upstream) setCommand(command, written []string) {
	u.stdio.Command, u.shown = command, shownCommand(written)
}

const nul = "\x00"

// wrongWord says what no argument and no variable of a process can have, or "".
func wrongWord(s string) (why string) {
	if strings.Contains(s, nul) {
		return "must not hold a NUL byte"
	}
	return ""
}

// secretName is a part of the names of options and variables that have secrets.
var secretName = regexp.MustCompile(`(?i)token|key|secret|password|passwd|credential|auth|header`)

// shownCommand writes a command for people, without what is probably a secret in it: the value of an option or variable whose
// name says so, and what stands before the @ of a URL and behind its ?.
func shownCommand(written []string) string {
	var shown []string
	masked := false // the word before is an option that has this one for a secret
	for _, word := range written {
		name, _, joined := strings.Cut(word, "=")
		option := strings.HasPrefix(word, "-")
		switch {
		case strings.Contains(word, "${"): // which says that the secret is elsewhere
			word = withoutUser(word)
		case masked && !option:
			word = "…"
		case joined && secretName.MatchString(name):
			word = name + "=…"
		default:
			word = withoutQuery(withoutUser(word))
		}
		masked = option && !joined && secretName.MatchString(name)
		shown = append(shown, quoteMeta(word))
	}
	return strings.Join(shown, " ")
}

// withoutUser takes user and password out of a URL, wherever it begins in a word.
func withoutUser(word string) string {
	start, at := strings.Index(word, "://"), strings.LastIndexByte(word, '@')
	if start < 0 || at < start {
		return word
	}
	return word[:start+len("://")] + "…" + word[at:]
}

// variables are those of a process by name.
var variables = kind[map[string]Secret]{"text by name of the variable", func(at key, n *yaml.Node, into *map[string]Secret) {
	at.variables(n, *into, key.expandYAML)
}, mappingOf(ofType("string"))}

func (at key) variables(n *yaml.Node, into map[string]Secret, expand func(key, *yaml.Node) (string, bool)) {
	at.each(n, func(name string, at key, n *yaml.Node) {
		value, ok := expand(at, n)
		switch {
		case name == "" || strings.ContainsAny(name, "="+nul):
			at.fault("is not a name that a variable can have")
		case ok && at.accepts(wrongWord(value)):
			into[name] = Secret{Value: value}
		}
	})
}

// startIn takes the directory of a command.
func (u *Upstream) startIn(value, written string, into *string) (why string) {
	if *into = value; value != written {
		u.shownCwd = written
	}
	return wrongWord(value)
}

// variablesOf takes the file of a command's variables.
func (u *Upstream) variablesOf(value, written string, into *string) (why string) {
	*into, u.envPath = written, value
	return wrongWord(value)
}

// readEnvFile reads that file, once all keys beside it are known.
func (u *Upstream) readEnvFile(c check) {
	if c.given() && c.sound() && u.envPath != "" {
		c.readVariables(absolute(filepath.Dir(c.by.file), u.envPath), u.envFile, u.stdio.Env)
	}
}

// absolute returns a path that begins at a directory where it is relative.
func absolute(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// home is the directory in which commands start that have no other. The root is one where there is none.
func (d *decoder) home() string {
	if home, _ := d.sources.Env("HOME"); filepath.IsAbs(home) {
		return filepath.Clean(home)
	}
	return string(filepath.Separator)
}

// searchPath is where commands are looked for: a word, or a list of absolute directories.
var searchPath = kind[SearchPath]{"login or inherit, or a list of absolute directories", func(at key, n *yaml.Node, into *SearchPath) {
	if *into = (SearchPath{}); shapeOf(n) == isText {
		if into.Source = PathSource(n.Value); into.Source != PathLogin && into.Source != PathInherit {
			at.fault("must be login, inherit or a list of absolute directories, not %s", shown(n.Value))
		}
		return
	}
	into.Source = PathList
	list("directories", absoluteDirectory, "").read(at, n, &into.Directories)
	if shapeOf(n) == isList && len(n.Content) == 0 {
		at.fault("must not be empty")
	}
}, func(s *jsonschema.Schema) {
	of := &jsonschema.Schema{Type: "array", Items: made(ofType("string")), MinItems: jsonschema.Ptr(1), UniqueItems: true}
	s.AnyOf = []*jsonschema.Schema{made(enum[any](PathLogin, PathInherit)), of}
}}

func absoluteDirectory(s string) (clean, why string) {
	if !filepath.IsAbs(s) || strings.ContainsAny(s, string(filepath.ListSeparator)+nul) {
		return "", "must be an absolute directory, not " + shown(s)
	}
	return filepath.Clean(s), ""
}

// users are users of this machine, by name or number.
var users = kind[[]User]{"list of names or numbers of users", func(at key, n *yaml.Node, into *[]User) {
	at.items(n, func(at key, n *yaml.Node) {
		name, ok := n.Value, shapeOf(n) == isNumber
		if !ok {
			name, ok = at.text(n)
		}
		if !ok {
			return
		}
		uid, err := at.by.uid(name)
		switch {
		case err != nil:
			at.fault("is no user of this machine: %s", shown(name))
		case slices.ContainsFunc(*into, func(u User) bool { return u.UID == uid }):
			at.fault("is given twice")
		default:
			*into = append(*into, User{name, uid})
		}
	})
}, func(s *jsonschema.Schema) {
	s.Type, s.UniqueItems = "array", true
	s.Items = &jsonschema.Schema{Types: []string{"string", "integer"}}
}}

// uid returns the number of a user.
func (d *decoder) uid(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	return d.sources.LookupUser(name)
}

func lookupUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// orNone takes "" for 0, which is no bound.
func orNone(k kind[int64]) kind[int64] {
	return kind[int64]{k.what + `, or ""`, func(at key, n *yaml.Node, into *int64) {
		if shapeOf(n) == isText && n.Value == "" {
			*into = 0
			return
		}
		k.read(at, n, into)
	}, func(s *jsonschema.Schema) {
		s.AnyOf = []*jsonschema.Schema{made(enum[any]("")), made(k.schema)}
	}}
}

// defaultTotal is how many processes a machine has room for, by its memory or, where that is less, its cgroup's.
func defaultTotal(s Sources) int {
	const each, usual = 128 << 20, 64
	memory := int64(usual * each)
	if text, err := s.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if n, _ := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); n == 1 {
			memory = kib << 10
		}
	}
	if text, err := s.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	return int(min(max(memory/each, 16), 256))
}

// refuses reports whether commands may not be started.
func (l *loader) refuses() bool { return l.sources.SystemUnit && !l.config.Processes.allowSystem }

// refuseCommands makes faults of the commands that the daemon may not start.
func (l *loader) refuseCommands(c check) {
	for _, at := range l.commands {
		if c.sound() && l.refuses() {
			at.fault(whyRefused)
		}
	}
}

// stdioFlag takes the command of --stdio.
func (l *loader) stdioFlag(u *Upstream, text string) (why string) {
	command, why := splitWords(text)
	if why == "" {
		u.setCommand(command, command)
		u.stdio.Cwd = l.flags.home()
	}
	return why
}

// SplitCommand splits a text into a program and its arguments as the flag --stdio does: as a shell would, with nothing expanded.
func SplitCommand(text string) ([]string, error) {
	words, why := splitWords(text)
	if why != "" {
		return nil, errors.New(why)
	}
	return words, nil
}

// splitWords splits a text into words as a shell does (POSIX, Shell Command Language, 2.2 Quoting), and refuses what only a
// shell could do.
func splitWords(text string) (words []string, why string) {
	const wanted = "must be a program and its arguments; no shell reads them, so put what is not meant as it stands into quotes, or write sh -c '...'"
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX), syntax.KeepComments(true)).Parse(strings.NewReader(text), "")
	if err != nil || len(file.Stmts) != 1 || len(file.Last) > 0 || strings.Contains(text, nul) {
		return nil, wanted
	}
	s := file.Stmts[0]
	call, ok := s.Cmd.(*syntax.CallExpr)
	if !ok || s.Negated || s.Background || s.Semicolon.IsValid() || len(s.Redirs)+len(s.Comments)+len(call.Assigns) > 0 {
		return nil, wanted
	}
	for _, w := range call.Args {
		word, ok := literal(w.Parts)
		if !ok {
			return nil, wanted
		}
		words = append(words, word)
	}
	if words[0] == "" {
		return nil, wanted
	}
	return words, ""
}

// literal returns what quotes and backslashes make of the parts of a word, if it has nothing else.
func literal(parts []syntax.WordPart) (string, bool) {
	var b strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(unescape(part.Value, ""))
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			for _, inner := range part.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok {
					return "", false
				}
				b.WriteString(unescape(lit.Value, "$`\"\\\n"))
			}
		default:
			return "", false
		}
	}
	return b.String(), true
}

// unescape takes away the backslashes that quote: before any sign, or before those of only.
func unescape(s, only string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (only == "" || strings.IndexByte(only, s[i+1]) >= 0) {
			if i++; s[i] == '\n' {
				continue // a line that goes on
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
