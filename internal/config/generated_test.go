package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that are made from the table of keys")

// TestGeneratedFiles compares what the table of keys says with the files that are made from it: the example, the schema that
// its first line names, and the tables of the configuration page. `go test ./internal/config -update` writes them.
func TestGeneratedFiles(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const page = "../../docs/configuration.md"
	for file, want := range map[string]string{
		"../../deploy/fluentd-perf.schema.json":  string(schema),
		"../../deploy/fluentd-perf.example.yaml": example(),
		page:                                     withTables(t, read(t, page)),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, file) != want {
			t.Errorf("%s is not what the table of keys says: go test ./internal/config -update", file)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// example writes every key with its default and what it is for.
func example() string {
	file, upstream := fileKeys()
	e := exampleWriter{upstream: upstream}
	e.line("# yaml-language-server: $schema=fluentd-perf.schema.json", "")
	e.line("# Every key that this version has, with its default where it has one. Only upstreams must be there.", "")
	e.line("# By the first line editors complete and check; `fluentd-perf schema > fluentd-perf.schema.json` writes the schema.", "")
	e.keys(file, "", "", "")
	return e.String()
}

type exampleWriter struct {
	strings.Builder
	upstream table
}

// line writes a line with a comment behind it, which goes on below where it is long.
func (e *exampleWriter) line(text, comment string) {
	const column, width = 38, 92
	line := ""
	for word := range strings.FieldsSeq(comment) {
		if line != "" && len(line+" "+word) > width {
			fmt.Fprintf(e, "%-*s # %s\n", column, text, line)
			text, line = "", ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		text = fmt.Sprintf("%-*s # %s", column, text, line)
	}
	e.WriteString(text + "\n")
}

// keys writes the keys below a prefix. off is "# " where they are not to be there.
func (e *exampleWriter) keys(t table, prefix, indent, off string) {
	for _, r := range t.children(prefix) {
		off := off
		if off == "" && (r.optional || t.meansNothing(r)) {
			off = "# "
		}
		if indent == "" {
			e.WriteString("\n")
		}
		start := indent + off + lastPart(r.name) + ":"
		switch {
		case r.into == nil:
			e.line(start, r.help)
			e.keys(t, r.name+".", indent+"  ", off)
		case r.name == "upstreams":
			e.line(start, r.help)
			e.line("  docs:", "")
			e.keys(e.upstream, "", "    ", "")
		default:
			e.line(start+" "+r.shown(), r.help)
		}
	}
}

// shown is what the example shows of a key.
func (r *row) shown() string {
	if r.sample != "" {
		return r.sample
	}
	return r.usual()
}

// withTables returns the page with the tables that it ought to have, between marks.
func withTables(t *testing.T, page string) string {
	t.Helper()
	file, upstream := fileKeys()
	for mark, rows := range map[string]table{"file": file, "upstream": upstream} {
		start, end := "<!-- keys of the "+mark+" -->\n", "<!-- end -->\n"
		before, rest, ok := strings.Cut(page, start)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("the page has no place for the keys of the %s", mark)
		}
		page = before + start + keysTable(rows) + end + after
	}
	return page
}

func keysTable(t table) string {
	var b strings.Builder
	b.WriteString("| key | what may stand there | default | what it is for |\n|---|---|---|---|\n")
	for _, r := range t {
		what, usual := "mapping", ""
		if r.into != nil {
			what, usual = r.what, "`"+r.usual()+"`"
		}
		if r.off != nil {
			what = "mapping, or off"
		}
		if r.word != "" {
			what = "mapping, or " + t.find(r.word).what
		}
		if r.sample != "" {
			usual = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.name, what, usual, strings.Join(r.sentences(), ". "))
	}
	return b.String()
}

// sentences say what a key is for, and where it is refused.
func (r *row) sentences() []string {
	sentences := []string{r.help}
	for _, no := range r.refusals {
		sentences = append(sentences, strings.ToUpper(no.why[:1])+no.why[1:])
	}
	return sentences
}
