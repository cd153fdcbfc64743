package config

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// commandKeys are those of an entry that is a command.
func (e *entry) commandKeys() entryKeys {
	stdio := &e.upstream.stdio
	return entryKeys{
		"command": readLater, "args": readLater, "envFile": readLater, // together
		"env": func(at key, n *yaml.Node) { at.variables(n, stdio.Env, key.expandValue) },
		"cwd": func(at key, n *yaml.Node) {
			if path, ok := at.expandWord(n); ok {
				at.accepts(e.upstream.startIn(path, n.Value, &stdio.Cwd))
			}
		},
		"type": func(at key, n *yaml.Node) {
			if at.is(n, "stdio", isText) && n.Value != "stdio" {
				at.fault("must be stdio beside a command, not %s", shown(n.Value))
			}
		},
	}
}

// completeCommand reads what keys of an entry say together.
func (e *entry) completeCommand(at key, n *yaml.Node) {
	stdio, base := &e.upstream.stdio, at.by.startDirectory()
	stdio.Cwd = absolute(base, stdio.Cwd)
	e.commandLine(at, n)
	if e.refuses() {
		at.named(commandKey).fault(whyRefused)
	}
	if file := find(n, "envFile"); file != nil {
		at := at.named("envFile")
		if path, ok := at.expandWord(file); ok {
			at.readVariables(absolute(base, path), file.Value, stdio.Env)
		}
	}
}

// commandLine puts the program and its arguments together.
func (e *entry) commandLine(at key, n *yaml.Node) {
	program := find(n, "command")
	if program == nil {
		at.fault("is of type stdio and has no command")
		return
	}
	var command, written []string
	add := func(at key, n *yaml.Node) {
		if word, ok := at.expandWord(n); ok && at.accepts(wrongWord(word)) {
			command, written = append(command, word), append(written, n.Value)
		}
	}
	of := at.named("command")
	add(of, program)
	if of.sound() && (len(command) == 0 || strings.TrimSpace(command[0]) == "") {
		of.fault("is empty")
	}
	if args := find(n, "args"); args != nil {
		at.named("args").items(args, add)
	}
	e.upstream.setCommand(command, written)
}

// expandWord reads a string as expandJSON does, and keeps the space around it.
func (at key) expandWord(n *yaml.Node) (string, bool) { return at.expand(n, forms, at.by.formJSON) }

// expandValue is expandWord for what agents take as a number or a boolean, too.
func (at key) expandValue(n *yaml.Node) (string, bool) {
	if s := shapeOf(n); s == isNumber || s == isBoolean {
		return n.Value, true
	}
	return at.expandWord(n)
}

// startDirectory is where the commands of a servers file start: in the project that it lies in, as an agent there starts them,
// else at home.
func (d *decoder) startDirectory() string {
	file, err := filepath.Abs(d.file)
	folder, werr := d.workspaceFolder()
	if err != nil || werr != nil {
		return d.home()
	}
	if filepath.Base(file) == ".mcp.json" || folder != filepath.Dir(file) || d.inRepository(folder) {
		return folder
	}
	return d.home()
}

// inRepository reports whether a directory or one above is a version control's. Home itself is none, whatever people keep of
// it.
func (d *decoder) inRepository(dir string) bool {
	for home := d.home(); dir != home; dir = filepath.Dir(dir) {
		marks := []string{".git", ".hg", ".jj", ".svn"}
		if slices.ContainsFunc(marks, func(mark string) bool { return d.sources.Exists(filepath.Join(dir, mark)) }) {
			return true
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return false
}

// variableLine is NAME=value, with or without quotes, as editors read such a file. Nothing is expanded.
var variableLine = regexp.MustCompile(`^\s*(?:export\s+)?([a-zA-Z_][a-zA-Z0-9_.-]*)\s*=\s*(?:"([^"]*)"|'([^']*)'|(.*?))\s*$`)

// readVariables reads a file of variables, which is named as it is written. Those that are there already win over it. What is said
// shows the numbers of its lines, and nothing that stands there.
func (at key) readVariables(path, written string, into map[string]Secret) {
	text, err := at.by.sources.ReadFile(path)
	switch {
	case err != nil:
		at.fault("the file %s cannot be read: %v", bareShown(written), bareError(err))
		return
	case len(text) > maxSecret:
		at.fault("the file %s is larger than %s", bareShown(written), formatSize(maxSecret))
		return
	}
	own := sortedKeys(into)
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\uFEFF"))) {
		number++
		trimmed := strings.TrimSpace(string(line))
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		found := variableLine.FindStringSubmatch(trimmed)
		switch {
		case found == nil || wrongWord(trimmed) != "":
			at.warn("line %d of %s left out: it is not NAME=value", number, bareShown(written))
		case !slices.Contains(own, found[1]):
			into[found[1]] = Secret{Value: found[2] + found[3] + found[4]}
		}
	}
}
