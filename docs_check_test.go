package fluentdperf_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

// history are documents that speak of what was or will be: of these only the links are checked.
var history = []string{"CHANGELOG.md", "docs/roadmap.md"}

// TestDocuments checks what the documents say: links and anchors, keys of the configuration, files, make targets and tests.
// Commands of the daemon are checked beside its flags, in cmd/fluentd-perf.
func TestDocuments(t *testing.T) {
	faults, documents := documentFaults(t, ".")
	for _, fault := range faults {
		t.Error(fault)
	}
	if documents < 15 {
		t.Errorf("only %d documents were looked at: the test looks in the wrong place", documents)
	}
}

// TestDocumentsFindsFaults runs the same checks over documents of planted faults.
func TestDocumentsFindsFaults(t *testing.T) {
	got, _ := documentFaults(t, "testdata/docs")
	if want := strings.Split(strings.TrimSpace(read(t, "testdata/docs/want.txt")), "\n"); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// documentFaults returns a line for each thing that is wrong in the documents below root, and the number of documents.
func documentFaults(t *testing.T, root string) (faults []string, documents int) {
	t.Helper()
	var pages []*page
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name, _ := filepath.Rel(root, file) // Glob's files are below root
			pages = append(pages, parsePage(root, filepath.ToSlash(name), read(t, file)))
		}
	}
	for _, p := range pages {
		p.checkLinks(t)
		if !slices.Contains(history, p.name) {
			p.checkKeys()
			p.checkFiles()
			p.checkMake(t)
			p.checkGoTest()
		}
		faults = append(faults, p.faults...)
	}
	return faults, len(pages)
}

// page is a document in Markdown.
type page struct {
	root, name string   // name is the path below root
	prose      string   // what is not in fenced blocks
	blocks     []block  // the fenced blocks
	spans      []string // the code spans in prose
	faults     []string
}

type block struct{ language, text string }

var codeSpan = regexp.MustCompile("`([^`]+)`")

func parsePage(root, name, text string) *page {
	p := &page{root: root, name: name}
	var prose strings.Builder
	var in *block
	for line := range strings.Lines(text) {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && in == nil:
			in = &block{language: language}
		case fence:
			p.blocks = append(p.blocks, *in)
			in = nil
		case in != nil:
			in.text += line
		default:
			prose.WriteString(line)
		}
	}
	p.prose = prose.String()
	for _, span := range codeSpan.FindAllStringSubmatch(p.prose, -1) {
		p.spans = append(p.spans, strings.Join(strings.Fields(span[1]), " "))
	}
	return p
}

func (p *page) fault(format string, args ...any) {
	p.faults = append(p.faults, p.name+": "+fmt.Sprintf(format, args...))
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks follows relative links, to the heading where they name one. What is not relative is not looked at.
func (p *page) checkLinks(t *testing.T) {
	t.Helper()
	for _, found := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(p.prose, "code"), -1) {
		target := found[1] + found[2]
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		name, anchor, _ := strings.Cut(target, "#")
		other := p
		if name != "" {
			file := filepath.Join(p.root, filepath.Dir(p.name), name)
			if _, err := os.Stat(file); err != nil {
				p.fault("links to %s, which is not there", target)
				continue
			}
			if filepath.Ext(name) == ".md" {
				other = parsePage(p.root, name, read(t, file))
			}
		}
		if anchor != "" && !slices.Contains(other.anchors(), anchor) {
			p.fault("links to %s, which has no such heading", target)
		}
	}
}

// anchors are the headings as GitHub names them.
func (p *page) anchors() (anchors []string) {
	times := map[string]int{}
	for _, found := range heading.FindAllStringSubmatch(p.prose, -1) {
		slug := strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")
		if times[slug]++; times[slug] > 1 {
			slug = fmt.Sprintf("%s-%d", slug, times[slug]-1)
		}
		anchors = append(anchors, slug)
	}
	return anchors
}

var (
	dottedKey = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)
	setKey    = regexp.MustCompile(`^([a-z_]+(?:\.[a-z_]+)*): (.+)$`)
	fileName  = regexp.MustCompile(`\.(go|md|json|yaml|sock|txt|sh|svg|key|db)$`)
)

// checkKeys looks for the keys of the configuration that the page names: `limits.body`, `errors: http`, and blocks of YAML, which
// must be whole configurations or what stands in an upstream.
func (p *page) checkKeys() {
	for _, span := range p.spans {
		if set := setKey.FindStringSubmatch(span); set != nil {
			if err := loads(nested(set[1], set[2])); isUnknown(err) {
				p.fault("`%s` is no key of the configuration", span)
			}
		} else if dottedKey.MatchString(span) && !fileName.MatchString(span) {
			if !isKey(span) {
				p.fault("`%s` is no key of the configuration", span)
			}
		}
	}
	for _, b := range p.blocks {
		if b.language != "yaml" {
			continue
		}
		if err := loads(b.text); err != nil {
			p.fault("a block of YAML cannot be loaded: %v", err)
		}
	}
}

// nested writes a key of several names, and its value, as YAML.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	return strings.Join(names[:len(names)-1], ": {") + strings.Repeat(": {", min(1, len(names)-1)) +
		names[len(names)-1] + ": " + value + strings.Repeat("}", len(names)-1) + "\n"
}

const server = "url: http://127.0.0.1:9/mcp"

// loads loads a text as a configuration with upstreams, as one without, and as the settings of an upstream. It returns nil where one
// of them can be served, else the faults of the one that comes nearest.
func loads(text string) error {
	inUpstream := "upstreams:\n  x:\n    " + server + "\n    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
	var nearest config.Faults
	for i, whole := range []string{text, text + "\nupstreams: {x: {" + server + "}}\n", inUpstream} {
		_, _, err := config.Load(config.Sources{
			File: "x.yaml",
			Env:  func(string) (string, bool) { return strings.Repeat("x", 32), true },
			ReadFile: func(path string) ([]byte, error) {
				if path == "x.yaml" {
					return []byte(whole), nil
				}
				return []byte(strings.Repeat("x", 32)), nil
			},
		})
		var faults config.Faults
		if !errors.As(err, &faults) {
			return err
		}
		if i == 0 || unknown(faults) < unknown(nearest) || unknown(faults) == unknown(nearest) && len(faults) < len(nearest) {
			nearest = faults
		}
	}
	return nearest
}

// unknown counts the faults that say that a key is not known.
func unknown(faults config.Faults) (n int) {
	for _, f := range faults {
		if strings.Contains(f.Text, "is not a known key") {
			n++
		}
	}
	return n
}

func isUnknown(err error) bool {
	var faults config.Faults
	return errors.As(err, &faults) && unknown(faults) > 0
}

// isKey reports whether the configuration has a key of that path, at its top or in an upstream: what is given for it may be wrong,
// but it is known, and so is all above it.
func isKey(path string) bool {
	var faults config.Faults
	if !errors.As(loads(nested(path, "[]")), &faults) {
		return true
	}
	for _, f := range faults {
		key := strings.TrimPrefix(f.Key, "upstreams.x.")
		if strings.Contains(f.Text, "is not a known key") || strings.HasPrefix(path, key+".") && !strings.Contains(f.Text, "means nothing") {
			return false
		}
	}
	return true
}

var ourFile = regexp.MustCompile(`^(cmd|internal|deploy|scripts|e2e|bench|docs|testdata)/[\w./*-]+$`)

// checkFiles looks for the files and folders of this repository that the page names.
func (p *page) checkFiles() {
	for _, span := range p.spans {
		if !ourFile.MatchString(span) {
			continue
		}
		if found, err := filepath.Glob(filepath.Join(p.root, span)); err != nil || len(found) == 0 {
			p.fault("names `%s`, which is not there", span)
		}
	}
}

var (
	makeTarget = regexp.MustCompile(`^make ([a-z-]+)`)
	makefile   = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// commands are the code spans and the lines of shell blocks.
func (p *page) commands() []string {
	commands := slices.Clone(p.spans)
	for _, b := range p.blocks {
		if b.language == "sh" {
			commands = append(commands, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
		}
	}
	return commands
}

// checkMake looks for the targets in the Makefile.
func (p *page) checkMake(t *testing.T) {
	t.Helper()
	var targets []string
	for _, found := range makefile.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, found[1])
	}
	for _, command := range p.commands() {
		if found := makeTarget.FindStringSubmatch(command); found != nil && !slices.Contains(targets, found[1]) {
			p.fault("the Makefile has no target %s", found[1])
		}
	}
}

var (
	testNames   = regexp.MustCompile(`-(?:run|bench|fuzz) '?\^?((?:Test|Benchmark|Fuzz)\w+)`)
	testPackage = regexp.MustCompile(` \./(\S+)`)
)

// checkGoTest looks for the tests, benchmarks and fuzz targets that the page runs.
func (p *page) checkGoTest() {
	for _, command := range p.commands() {
		folder := testPackage.FindStringSubmatch(command)
		if !strings.HasPrefix(command, "go test ") || folder == nil {
			continue
		}
		for _, name := range testNames.FindAllStringSubmatch(command, -1) {
			if !hasTest(filepath.Join(p.root, folder[1]), name[1]) {
				p.fault("%s has no %s", folder[1], name[1])
			}
		}
	}
}

// hasTest reports whether a test file of the folder has a function whose name begins so.
func hasTest(folder, name string) bool {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	return err == nil && slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "\nfunc "+name)
	})
}

// TestReadmeIsShort holds the first page to what one reads at once, and has it lead to all others.
func TestReadmeIsShort(t *testing.T) {
	readme := read(t, "README.md")
	if lines := strings.Count(readme, "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, want 150 at most", lines)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%v, %d pages", err, len(pages))
	}
	first := readme + read(t, "CONTRIBUTING.md")
	for _, page := range pages {
		if !strings.Contains(first, "]("+page+")") {
			t.Errorf("neither README.md nor CONTRIBUTING.md links to %s", page)
		}
	}
}
