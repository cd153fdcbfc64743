package fluentdperf_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pictures are words that the code once had for names, each with the field's term that is used instead. No part of an
// identifier is one of them, and no text of the daemon contains one.
var pictures = map[string]string{
	"road": "pipeline", "roads": "pipelines",
	"door": "handler", "doors": "routes",
	"ear": "change listener", "ears": "change listeners",
	"hear": "receive", "hears": "receives", "heard": "received", "unheard": "notExecuted",
	"rumour": "message", "rumours": "messages",
	"asker": "principal", "askers": "principals",
	"seat": "waiter", "seats": "waiters",
	"fly": "run", "land": "deliver", "lands": "delivers", "landing": "delivery", "landings": "deliveries",
	"rider": "waiter", "riders": "waiters", "passenger": "pendingCall", "passengers": "pendingCalls",
	"board": "enqueue", "boards": "enqueues", "travel": "send", "travels": "is sent",
	"pays": "invalidates", "owe": "pending", "owes": "pending", "owed": "pending",
	"debt": "pending invalidation", "debts": "pending invalidations", "debtor": "pending invalidation", "debtors": "pending invalidations",
	"patient": "recovery", "patients": "recoveries", "patience": "a timeout, by its name",
	"crowd": "queue, clients", "crowds": "queues, clients", "deaf": "not reading", "nook": "tempDir",
	"guest": "client", "guests": "clients",
	"doubt": "withdrawn", "doubts": "withdrawn", "heed": "executed", "foreign": "wrongEra, other", "came": "received",
	"abyss": "overflow", "verdict": "result", "verdicts": "results",
}

// phrases are pictures of more than one word, in texts.
var phrases = []string{"left alone", "makes old", "makes them old", "stands in for", "takes away", "last words"}

// kept are the texts with such a word that stay, by file, because something beside the code has them.
var kept = []struct{ file, word, why string }{
	{"internal/cache/guards.go", "asker", "hashed into generations' names, which daemons of two versions share in Redis and Postgres"},
	{"internal/cache/sqlite/open.go", "foreign", "the ending of a file that users find on their disk"},
	{"internal/upstream/stdio/process/environ.go", "seat", "a variable of the environment, XDG_SEAT"},
	{"internal/monitor/keys.go", "land", "the import path of Bubble Tea, charm.land"},
	{"internal/monitor/model.go", "land", "the same"},
	{"internal/monitor/run.go", "land", "the same"},
	{"internal/monitor/terminal.go", "land", "the same"},
	{"internal/monitor/view.go", "land", "the same"},
	{"internal/cache/stats.go", "owed", "a member of what cache-stats -o json prints, which users' scripts read"},
}

// TestWords holds that no picture is a name in this repository, and that none is in a text of the daemon.
func TestWords(t *testing.T) {
	faults, files := pictureFaults(t, ".")
	for _, fault := range faults {
		t.Error(fault)
	}
	for _, k := range kept {
		if !strings.Contains(strings.ToLower(read(t, k.file)), k.word) {
			t.Errorf("%s has %q no more: the exception is of no use", k.file, k.word)
		}
	}
	if files < 100 {
		t.Errorf("only %d Go files were looked at: the test looks in the wrong place", files)
	}
}

// TestWordsFindsFaults runs the same check over a file of planted faults.
func TestWordsFindsFaults(t *testing.T) {
	got, _ := pictureFaults(t, "testdata/words")
	if want := strings.Split(strings.TrimSpace(read(t, "testdata/words/want.txt")), "\n"); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// pictureFaults returns a line for each picture in the Go files below root, in their order, and the number of the files.
func pictureFaults(t *testing.T, root string) (faults []string, files int) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipDir(name):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		files++
		found, err := filePictures(root, name)
		faults = append(faults, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return faults, files
}

// filePictures looks at one file: at its identifiers, and unless only tests run it at its texts.
func filePictures(root, name string) (faults []string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	fault := func(at ast.Node, what, word string) {
		faults = append(faults, fmt.Sprintf("%s:%d: %s: %q is a picture: %s", name, fset.Position(at.Pos()).Line, what, word, instead(word)))
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Ident:
			for _, word := range camelParts(node.Name) {
				if pictures[word] != "" {
					fault(node, node.Name, word)
				}
			}
		case *ast.BasicLit:
			if node.Kind != token.STRING || !isProduct(name) {
				return true
			}
			for _, word := range textPictures(node.Value) {
				if !isKept(name, word) {
					fault(node, node.Value, word)
				}
			}
		}
		return true
	})
	return faults, nil
}

// testTools are directories of what only tests run.
var testTools = []string{"e2e/", "bench/", "internal/mcptest/", "internal/cache/tier/tiertest/"}

// isProduct reports whether users run what is in a file.
func isProduct(name string) bool {
	return !strings.HasSuffix(name, "_test.go") && !slices.ContainsFunc(testTools, func(dir string) bool { return strings.HasPrefix(name, dir) })
}

func isKept(name, word string) bool {
	return slices.ContainsFunc(kept, func(k struct{ file, word, why string }) bool { return k.file == name && k.word == word })
}

func instead(word string) string {
	if term := pictures[word]; term != "" {
		return "say " + term
	}
	return "say what happens"
}

// camelParts returns the words of which an identifier is made, in lower case: HTTPDoor_2 is http, door and 2.
func camelParts(name string) (parts []string) {
	runes, start := []rune(name), 0
	cut := func(end int) {
		if part := strings.Trim(string(runes[start:end]), "_"); part != "" {
			parts = append(parts, strings.ToLower(part))
		}
		start = end
	}
	for i := 1; i < len(runes); i++ {
		up, upBefore := unicode.IsUpper(runes[i]), unicode.IsUpper(runes[i-1])
		startsWord := up && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if up && (!upBefore || startsWord) || unicode.IsLetter(runes[i]) != unicode.IsLetter(runes[i-1]) {
			cut(i)
		}
	}
	cut(len(runes))
	return parts
}

var textWord = regexp.MustCompile(`[A-Za-z]+`)

func textPictures(text string) (found []string) {
	lower := strings.ToLower(text)
	for _, word := range textWord.FindAllString(lower, -1) {
		if pictures[word] != "" && word != "came" { // in a sentence it is a plain verb
			found = append(found, word)
		}
	}
	for _, phrase := range phrases {
		if strings.Contains(lower, phrase) {
			found = append(found, phrase)
		}
	}
	return found
}
