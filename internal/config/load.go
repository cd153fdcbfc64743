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
)

// Sources says where the configuration comes from. The upstreams of all sources are taken together.
type Sources struct {
	File      string   // the YAML file; "" for none
	MCPJSON   []string // servers files of agents
	Upstreams []string // name=url, an upstream with nothing but defaults; the URL is taken as it is
	Listen    []string // addresses instead of the file's

	// Env looks a variable up; nil means the process's environment.
	Env func(name string) (string, bool)
	// ReadFile reads a file; nil means the file system's, up to 1 MiB.
	ReadFile func(path string) ([]byte, error)
}

// Load reads, completes and checks the configuration. Its error is Faults, with everything that is wrong. Warnings name
// what was left out and come with and without an error.
func Load(s Sources) (*Config, []Warning, error) {
	l := newLoader(s)
	if s.File != "" {
		l.readFile(s.File)
	}
	for _, flag := range s.Upstreams {
		l.readFlag(flag)
	}
	l.listenFlags()
	l.table.check(l.main, key{})
	l.checkLoops()
	for _, file := range s.MCPJSON {
		l.readServers(file) // last: they give way to what a person wrote for the daemon
	}
	l.checkUpstreams()
	slices.SortFunc(l.config.Upstreams, func(a, b Upstream) int { return strings.Compare(a.Name, b.Name) })
	if len(l.report.faults) > 0 {
		return nil, l.report.warnings, l.report.sorted()
	}
	return l.config, l.report.warnings, nil
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
	endpoints []endpointAt      // those of sound upstreams
	listens   []listenAt
	unknown   bool // a source could not be read and may have had upstreams
	empty     []emptyServers

	upstreamsRow check // of the YAML file
}

// endpointAt is an upstream's URL and where it is written.
type endpointAt struct {
	by *decoder
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
	if root == nil || root.kind != kindMapping {
		l.unknown = true
	}
	if root == nil {
		return
	}
	l.table.read(l.main, key{line: root.line}, root, "")
}

// readFlag reads one name=url.
func (l *loader) readFlag(flag string) {
	at := key{path: "--upstream"}
	name, address, ok := strings.Cut(flag, "=")
	if !ok {
		l.flags.fault(at, "must be name=url")
		l.unknown = true
		return
	}
	at.path += " " + quoteName(name)
	before := len(l.report.faults)
	l.claim(l.flags, at, name)
	u, keys := newUpstream(name)
	l.flags.endpoint(at, address, address, u)
	keys.check(l.flags, at)
	l.add(l.flags, []key{at}, u, before)
}

// newUpstream returns an upstream with the defaults, and the keys that set it.
func newUpstream(name string) (*Upstream, table) {
	u := &Upstream{Name: name}
	keys := u.keys()
	keys.reset()
	u.Headers = http.Header{}
	return u, keys
}

// upstreams are the upstreams by name.
func (l *loader) upstreams() kind[[]Upstream] {
	read := func(d *decoder, at key, n *node, _ *[]Upstream) {
		l.unknown = l.unknown || n.kind != kindMapping
		d.each(at, n, func(name string, at key, n *node) { l.readUpstream(d, name, at, n) })
	}
	return kind[[]Upstream]{"mapping of names to servers", read, func() *jsonschema.Schema {
		u, keys := newUpstream("")
		names := &jsonschema.Schema{Pattern: upstreamName.String()}
		return &jsonschema.Schema{Type: "object", AdditionalProperties: append(u.addressKeys(nil), keys...).schema(""), PropertyNames: names}
	}}
}

func (l *loader) readUpstream(d *decoder, name string, at key, n *node) {
	before := len(d.faults)
	var places []key
	u, keys := newUpstream(name)
	keys = append(u.addressKeys(&places), keys...)
	keys.read(d, at, n, "")
	keys.check(d, at)
	l.claim(d, at, name)
	l.add(d, places, u, before)
}

// claim takes the name of an upstream.
func (l *loader) claim(d *decoder, at key, name string) {
	if where, taken := l.names[name]; taken {
		d.fault(at, "the name is taken: it is given at %s", where)
		return
	}
	l.names[name] = d.place(at)
	if !upstreamName.MatchString(name) {
		d.fault(at, "the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first")
	}
}

// place says where a key is.
func (d *decoder) place(at key) string {
	if d.file == "" {
		return at.path
	}
	return d.file + ":" + strconv.Itoa(at.line)
}

// maxName is the length of an upstream's name, in bytes.
const maxName = 64

// upstreamName is what is fit to be an element of a path and a metric label.
var upstreamName = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}$`)

// add takes an upstream whose URLs stand at those keys, if there were as many faults before it was read as there are now.
func (l *loader) add(d *decoder, at []key, u *Upstream, before int) {
	if len(l.report.faults) > before {
		return
	}
	l.config.Upstreams = append(l.config.Upstreams, *u)
	for i, to := range u.URLs {
		l.endpoints = append(l.endpoints, endpointAt{d, at[i], to})
	}
}

// Default returns the configuration of an empty file. It has no upstream, so Load would refuse it.
func Default() *Config {
	l := newLoader(Sources{})
	l.table.check(l.main, key{})
	return l.config
}

// checkUpstreams wants at least one upstream.
func (l *loader) checkUpstreams() {
	if len(l.names) > 0 || l.unknown {
		return
	}
	for _, e := range l.empty {
		e.by.fault(e.at, "has no server left: %s", e.why)
	}
	if len(l.empty) == 0 {
		where := "here"
		if l.main.file == "" {
			where = "in a file for --config"
		}
		l.upstreamsRow.fault("there is none; name one %s, by --upstream or by --mcp-json", where)
	}
}
