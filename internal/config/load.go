package config

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// Sources says where the configuration comes from. The upstreams of all sources are taken together.
type Sources struct {
	File      string   // the YAML file; "" for none
	MCPJSON   []string // servers files of agents
	Upstreams []string // name=url, an upstream with nothing but defaults; the URL is taken as it is
	Stdio     []string // name=command, such an upstream that is a command: words as a shell reads them, nothing expanded
	Shared    []string // names of upstreams that are commands, whose sessions share a process whatever their entries say
	Listen    []string // addresses instead of the file's

	// SystemUnit says that the daemon is a service of the system, and no person's: commands are refused, unless the file allows
	// them.
	SystemUnit bool

	// Env looks a variable up; nil means the process's environment.
	Env func(name string) (string, bool)
	// ReadFile reads a file; nil means the file system's, up to 1 MiB.
	ReadFile func(path string) ([]byte, error)
	// Exists reports whether there is a file or directory; nil means in the file system.
	Exists func(path string) bool
	// LookupUser returns the number of a user; nil means of the machine's.
	LookupUser func(name string) (uid uint32, err error)
}

// Load reads, completes and checks the configuration. Its error is Faults, with everything that is wrong. Warnings name
// what was left out and come with and without an error.
func Load(s Sources) (*Config, []Warning, error) {
	l := newLoader(s)
	if s.File != "" {
		l.readFile(s.File)
	}
	for _, flag := range s.Upstreams {
		l.readFlag("--upstream", urlKey, flag, (*Upstream).urlFlag)
	}
	for _, flag := range s.Stdio {
		l.readFlag("--stdio", commandKey, flag, l.stdioFlag)
	}
	l.listenFlags()
	l.table.check(l.main.root(0))
	for _, e := range l.endpoints {
		if own := l.ownAddress(e.u); own != "" {
			e.at.fault("is the daemon's own address (%s); name the server itself", own)
		}
	}
	for _, file := range s.MCPJSON {
		l.readServers(file) // last: they give way to what a person wrote for the daemon
	}
	l.checkUpstreams()
	l.sharedFlags()
	l.warnOfUnused()
	slices.SortFunc(l.config.Upstreams, func(a, b Upstream) int { return strings.Compare(a.Name, b.Name) })
	if len(l.report.faults) > 0 {
		return nil, l.report.warnings, l.report.sorted()
	}
	return l.config, l.report.warnings, nil
}

// Default returns the configuration of an empty file. It has no upstream, so Load would refuse it.
func Default() *Config {
	l := newLoader(Sources{})
	l.table.check(l.main.root(0))
	return l.config
}

// loader puts the sources together.
type loader struct {
	sources   Sources
	report    *report
	config    *Config
	table     table             // the keys of config
	flags     *decoder          // the command line
	main      *decoder          // the YAML file, or the command line where there is none
	names     map[string]string // every upstream named so far, sound or not, and where
	endpoints []endpointAt      // of sound upstreams; those of servers files are checked as they are read
	commands  []key             // likewise
	listens   []listenAt
	unknown   bool   // a source could not be read and may have had upstreams
	empty     Faults // of servers files that gave no upstream
}

// endpointAt is an upstream's URL and where it is written.
type endpointAt struct {
	at key
	u  *url.URL
}

func newLoader(s Sources) *loader {
	if s.Env == nil {
		s.Env = os.LookupEnv
	}
	if s.ReadFile == nil {
		s.ReadFile = readFile
	}
	if s.Exists == nil {
		s.Exists = exists
	}
	if s.LookupUser == nil {
		s.LookupUser = lookupUser
	}
	l := &loader{sources: s, report: &report{}, config: &Config{}, names: map[string]string{}}
	l.table = l.keys()
	l.table.reset()
	l.flags = l.decoder("")
	l.main = l.flags
	return l
}

func (l *loader) decoder(file string) *decoder {
	if file != "" {
		l.report.files = append(l.report.files, file)
	}
	return (&decoder{report: l.report, sources: l.sources, file: file}).anew()
}

func (l *loader) readFile(file string) {
	l.main = l.decoder(file)
	root := l.main.open(parseYAML)
	l.unknown = root == nil || shapeOf(root) != isMapping
	if root != nil {
		l.table.read(l.main.root(root.Line), root, "")
	}
}

// readFlag reads one name=value. take takes the value or says what is wrong with it.
func (l *loader) readFlag(name, what, flag string, take func(u *Upstream, value string) (why string)) {
	at := key{by: l.flags, path: name}
	name, value, ok := strings.Cut(flag, "=")
	if !ok {
		at.fault("must be name=%s", what)
		l.unknown = true
		return
	}
	at.path += " " + quoteName(name)
	before := len(l.report.faults)
	l.claim(at, name)
	u, keys := newUpstream(name)
	at.accepts(take(u, value))
	keys.check(at)
	if len(u.stdio.Command) > 0 {
		l.commands = append(l.commands, at)
	}
	l.add(u.places(at), u, before)
}

// sharedFlags lets sessions share a process.
func (l *loader) sharedFlags() {
	for _, name := range l.sources.Shared {
		at := key{by: l.flags, path: "--shared " + quoteName(name)}
		i := slices.IndexFunc(l.config.Upstreams, func(u Upstream) bool { return u.Name == name })
		_, isUnsound := l.names[name]
		switch {
		case i >= 0 && l.config.Upstreams[i].Stdio == nil:
			at.fault("is no command: its sessions are its own")
		case i >= 0:
			l.config.Upstreams[i].Sessions.Mode = SessionsShared
		case !isUnsound && !l.unknown:
			at.fault("names no server; %s", suggestion(name, sortedKeys(l.names)))
		}
	}
}

func (u *Upstream) urlFlag(address string) (why string) { return u.add(address, address) }

// places says that all URLs are written at one place.
func (u *Upstream) places(at key) []key { return slices.Repeat([]key{at}, len(u.URLs)) }

// newUpstream returns an upstream with the defaults, and the keys that set it.
func newUpstream(name string) (*Upstream, table) {
	u := &Upstream{}
	keys := u.keys()
	u.reset(name, keys)
	return u, keys
}

func (u *Upstream) reset(name string, keys table) {
	*u = Upstream{Name: name, Headers: http.Header{}, stdio: Stdio{Env: map[string]Secret{}}}
	keys.reset()
}

// upstreams are the upstreams by name.
func (l *loader) upstreams() kind[[]Upstream] {
	read := func(at key, n *yaml.Node, _ *[]Upstream) {
		l.unknown = l.unknown || shapeOf(n) != isMapping
		at.each(n, func(name string, at key, n *yaml.Node) { l.readUpstream(name, at, n) })
	}
	return kind[[]Upstream]{"mapping of names to servers", read, func(s *jsonschema.Schema) {
		u, keys := newUpstream("")
		s.Type, s.PropertyNames = "object", &jsonschema.Schema{Pattern: upstreamName.String()}
		s.AdditionalProperties = append(u.addressKeys(nil), keys...).schema("")
	}}
}

func (l *loader) readUpstream(name string, at key, n *yaml.Node) {
	before := len(l.report.faults)
	var places []key
	u, keys := newUpstream(name)
	keys = append(u.addressKeys(&places), keys...)
	keys.read(at, n, "")
	keys.check(at)
	if len(u.stdio.Command) > 0 {
		l.commands = append(l.commands, at.below(commandKey))
	}
	l.claim(at, name)
	l.add(places, u, before)
}

// claim takes the name of an upstream.
func (l *loader) claim(at key, name string) {
	if where, taken := l.names[name]; taken {
		at.fault("the name is taken: it is given at %s", where)
		return
	}
	l.names[name] = at.place()
	if !upstreamName.MatchString(name) {
		at.fault("the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first")
	}
}

// place says where a key is.
func (at key) place() string {
	if at.by.file == "" {
		return at.path
	}
	return at.by.file + ":" + strconv.Itoa(at.line)
}

// maxName is the length of an upstream's name, in bytes.
const maxName = 64

// upstreamName is what is fit to be an element of a path and a metric label.
var upstreamName = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}$`)

// add takes an upstream whose URLs stand at those places, if there were as many faults before it was read as there are now.
func (l *loader) add(places []key, u *Upstream, before int) {
	if len(l.report.faults) > before {
		return
	}
	whole := *u
	whole.stdio = Stdio{}
	if len(u.stdio.Command) > 0 {
		stdio := u.stdio
		whole.Stdio = &stdio
	}
	l.config.Upstreams = append(l.config.Upstreams, whole)
	for i, at := range places {
		l.endpoints = append(l.endpoints, endpointAt{at, u.URLs[i]})
	}
}

// checkUpstreams wants at least one upstream.
func (l *loader) checkUpstreams() {
	if len(l.names) > 0 || l.unknown {
		return
	}
	l.report.faults = append(l.report.faults, l.empty...)
	if len(l.empty) == 0 {
		where := "here"
		if l.main.file == "" {
			where = "in a file for --config"
		}
		l.main.root(0).below(upstreamsKey).fault("there is none; name one %s, by --upstream, --stdio or --mcp-json", where)
	}
}
