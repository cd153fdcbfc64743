package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestDocumentsShowRealCommands runs the parser of the command line over what the documents show: every verb, flag and number of
// arguments must be right. The changelog speaks of what was, and is left out.
func TestDocumentsShowRealCommands(t *testing.T) {
	var commands int
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../deploy/systemd/*.s*", "../../deploy/systemd/user/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(files))
		}
		for _, file := range files {
			if filepath.Base(file) == "CHANGELOG.md" {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			faults, n := wrongCommands(string(text))
			for _, fault := range faults {
				t.Errorf("%s: %s", file, fault)
			}
			commands += n
		}
	}
	if commands < 30 {
		t.Errorf("only %d commands were found: the test looks in the wrong place", commands)
	}
}

// TestDocumentsShowRealCommandsFindsFaults has the same check find planted faults, and nothing else.
func TestDocumentsShowRealCommandsFindsFaults(t *testing.T) {
	const text = "Right: `fluentd-perf status --calls`, `serve --listen 127.0.0.1:1`, `--version`, `fluentd-perf --help`, `version`.\n" +
		"Wrong: `fluentd-perf stats`, `fluentd-perf status --call`, `status --detailed`, `--no-such`, `fluentd-perf check FILE`,\n" +
		"`bin/fluentd-perf check --config`.\n" +
		"```sh\n" +
		"fluentd-perf cache-purge --upstream docs \\\n  --method tools/list   # what is right\n" +
		"fluentd-perf cache-purge --upstream docs \\\n  --methods tools/list\n" +
		"docker run --rm fluentd-perf:VERSION serve --configuration x\n" +
		"fluentd-perf status | grep --no-such x\n" +
		"fluentd-perf serve --stdio files='npx -y x'\n" +
		"```\n"
	want := []string{
		"fluentd-perf stats: unknown command",
		"fluentd-perf status --call: unknown flag: --call",
		"fluentd-perf status --detailed: unknown flag: --detailed",
		"--no-such: no verb has this flag",
		`fluentd-perf check FILE: unknown command "FILE" for "fluentd-perf check"`,
		"fluentd-perf check --config: flag needs an argument: --config",
		"fluentd-perf cache-purge --upstream docs --methods tools/list: unknown flag: --methods",
		"fluentd-perf serve --configuration x: unknown flag: --configuration",
	}
	if got, _ := wrongCommands(text); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var (
	shellBlock  = regexp.MustCompile("(?ms)^```\\w*\n(.*?)^```")
	codeSpan    = regexp.MustCompile("`([^`]+)`")
	programLine = regexp.MustCompile(`(?m)(?:^|[\s#=/])fluentd-perf(?::VERSION)? +([a-z-][^|;&>#\n]*)`)
	shellWord   = regexp.MustCompile(`(?:'[^']*'|[^\s'])+`)
	verbSpan    = regexp.MustCompile(`^[a-z-]+ .*--`)
	flagSpan    = regexp.MustCompile(`^--[a-z-]+`)
)

// wrongCommands returns a line for each command in a document that the program would refuse, in code spans and then in blocks and
// comments, and the number of commands.
func wrongCommands(text string) (faults []string, commands int) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	check := func(args string) {
		commands++
		words := shellWord.FindAllString(args, -1)
		args = strings.Join(words, " ")
		if err := parseCommand(words); err != nil {
			faults = append(faults, "fluentd-perf "+args+": "+err.Error())
		}
	}
	for _, span := range codeSpan.FindAllStringSubmatch(shellBlock.ReplaceAllString(text, ""), -1) {
		command := strings.Join(strings.Fields(span[1]), " ")
		if found := programLine.FindStringSubmatch(command); found != nil {
			check(found[1])
		} else if flag := flagSpan.FindString(command); flag != "" {
			commands++
			if !isFlag(flag) {
				faults = append(faults, flag+": no verb has this flag")
			}
		} else if verb, _, _ := strings.Cut(command, " "); verbSpan.MatchString(command) && isVerb(verb) {
			check(command)
		}
	}
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		for _, found := range programLine.FindAllStringSubmatch(block[1], -1) {
			check(found[1])
		}
	}
	return faults, commands
}

// parseCommand says what is wrong with a command line, without running it.
func parseCommand(args []string) error {
	root := completeRoot()
	verb, rest, err := root.Find(args)
	switch {
	case err != nil:
		return err
	case verb == root && !strings.HasPrefix(args[0], "-"):
		return fmt.Errorf("unknown command")
	}
	verb.InitDefaultHelpFlag()
	verb.InitDefaultVersionFlag()
	verb.SetFlagErrorFunc(nil)
	if err := verb.ParseFlags(rest); err != nil {
		return err
	}
	return verb.ValidateArgs(verb.Flags().Args())
}

// completeRoot is the root command with what cobra adds when it runs.
func completeRoot() *cobra.Command {
	root := rootCommand()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	return root
}

func isVerb(name string) bool {
	return slices.ContainsFunc(completeRoot().Commands(), func(c *cobra.Command) bool { return c.Name() == name })
}

// isFlag reports whether some verb has a flag, written as --name.
func isFlag(written string) bool {
	root := completeRoot()
	all := append(root.Commands(), root)
	for _, verb := range root.Commands() {
		all = append(all, verb.Commands()...)
	}
	return slices.ContainsFunc(all, func(c *cobra.Command) bool {
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		return c.Flags().Lookup(strings.TrimPrefix(written, "--")) != nil
	})
}
