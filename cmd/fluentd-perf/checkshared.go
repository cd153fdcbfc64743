package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/session/multiplex"
)

const filesystemServer = "@modelcontextprotocol/server-filesystem"

// statelessServers are packages that keep nothing between calls for one client but its roots, as their sources say (read in 2026). That
// is a hint, and nothing is shared for it.
var statelessServers = []string{filesystemServer, "mcp-server-fetch", "mcp-server-git", "mcp-server-time"}

// sharedWarnings says what speaks against sharing a server's process, as far as its command shows it.
func sharedWarnings(u config.Upstream) (all []string) {
	if u.Sessions.Mode != config.SessionsShared {
		return nil
	}
	for _, name := range commandNames(u.Stdio.Command) {
		if word := multiplex.StateWord(name); word != "" { // not the name: an argument may be secret
			all = append(all, fmt.Sprintf("sessions share one process, and the command speaks of %q: what a server keeps open for one agent, all would have", word))
			break
		}
	}
	if needsRoots(u.Stdio.Command) {
		all = append(all, "sessions share one process, which cannot ask for roots: name the directories in command")
	}
	return all
}

// commandNames returns what may be names of a program, a package or a script in a command.
func commandNames(command []string) []string {
	names, scripts := []string{filepath.Base(command[0])}, 0
	for _, word := range command[1:] {
		isPath := strings.IndexAny(word, "/.~") == 0
		switch {
		case strings.HasPrefix(word, "-"), strings.Contains(word, "="), strings.Contains(word, "://"):
			continue
		case !isPath:
			names = append(names, word)
		case scripts == 0:
			names = append(names, filepath.Base(word))
		}
		scripts++
	}
	return names
}

// packageAt returns where a command names a package of a list, whatever the version; -1 where it does not.
func packageAt(command []string, of ...string) int {
	return slices.IndexFunc(command, func(word string) bool {
		return slices.ContainsFunc(of, func(name string) bool {
			rest, ok := strings.CutPrefix(word, name)
			return ok && (rest == "" || strings.HasPrefix(rest, "@") || strings.HasPrefix(rest, "=="))
		})
	})
}

// needsRoots reports whether a server is one that has its directories from its client where none is among its arguments.
func needsRoots(command []string) bool {
	at := packageAt(command, filesystemServer)
	return at >= 0 && at == len(command)-1
}

// stateless are the servers whose sessions could share a process.
func (s stdioCheck) stateless() (names []string) {
	for _, u := range s.upstreams {
		if u.Sessions.Mode != config.SessionsShared && packageAt(u.Stdio.Command, statelessServers...) >= 0 && !needsRoots(u.Stdio.Command) {
			names = append(names, u.Name)
		}
	}
	return names
}

// sharedLine is the hint.
func (s stdioCheck) sharedLine(w io.Writer) error {
	names := s.stateless()
	if len(names) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nas far as is known, what keeps nothing for one agent but its roots: %s; sessions: shared saves processes there (docs/stdio.md)\n",
		strings.Join(names, ", "))
	return err
}
