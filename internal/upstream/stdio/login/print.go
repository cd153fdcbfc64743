package login

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"fluentd-perf/internal/safefile"
)

// printVerb is the first argument of a process that is to write its environment; the file is the second.
const printVerb = "print-environment"

// maxEnvironment bounds an environment in bytes. Linux takes no more than that at a start, under its usual limits.
const maxEnvironment = 2 << 20

// PrintIfAsked writes the environment of this process to a file, and does not return, where that is what it was started for. It
// must be called by main, early, in every program that uses a Resolver, tests included. The file is whole or not there at all.
func PrintIfAsked() {
	if len(os.Args) < 2 || os.Args[1] != printVerb {
		return
	}
	if err := printEnvironment(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", printVerb, err)
		syscall.Exit(1)
	}
	syscall.Exit(0) // at once: os.Exit would take a second under the race detector
}

func printEnvironment(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("it takes a file, and is started by the daemon only")
	}
	text := encode(os.Environ())
	if len(text) > maxEnvironment {
		return fmt.Errorf("the environment is larger than %d bytes", maxEnvironment)
	}
	return safefile.Create(args[0], text, os.Rename)
}

// encode writes words with a NUL behind each.
func encode(words []string) []byte {
	var text bytes.Buffer
	for _, word := range words {
		text.WriteString(word)
		text.WriteByte(0)
	}
	return text.Bytes()
}

// ours are variables that the run itself made, or that say something of the shell and nothing of the person.
var ours = []string{resolvingName, "TERM", "SHLVL", "PWD", "OLDPWD", "_"}

// decode reads what encode wrote: variables with a sound name, but for ours, sorted. Of equal names the last one counts.
func decode(text []byte) []string {
	values := map[string]string{}
	for word := range strings.SplitSeq(string(text), "\x00") {
		if name, value, ok := strings.Cut(word, "="); ok && isName(name) && !slices.Contains(ours, name) {
			values[name] = value
		}
	}
	words := make([]string, 0, len(values))
	for name, value := range values {
		words = append(words, name+"="+value)
	}
	slices.Sort(words)
	return words
}

// maxName bounds the name of a variable in bytes.
const maxName = 256

// isName reports whether a variable has a name that one can write. Functions that bash exports are no variables.
func isName(name string) bool {
	strange := func(r rune) bool { return r <= ' ' || r > '~' }
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, strange) && !strings.HasPrefix(name, "BASH_FUNC_")
}
