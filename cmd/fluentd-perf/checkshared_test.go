package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// TestSharedWarnings: check says what speaks against sharing a process, of those that are shared.
func TestSharedWarnings(t *testing.T) {
	speaks := func(word string) []string {
		return []string{`sessions share one process, and the command speaks of "` + word + `": what a server keeps open for one agent, all would have`}
	}
	roots := []string{"sessions share one process, which cannot ask for roots: name the directories in command"}
	for _, c := range []struct {
		command string
		want    []string
	}{
		{`[npx, -y, "@playwright/mcp@latest"]`, speaks("playwright")},
		{`[npx, -y, "@modelcontextprotocol/server-memory"]`, speaks("memory")},
		{`[/opt/browser-server]`, speaks("browser")},
		{`[node, /opt/listPages/index.js]`, nil},
		{`[node, /opt/x/text-editor.js, /home/me/pages]`, speaks("editor")},
		{`[x, --memory, "TAB=1", "http://h/page", /browser]`, speaks("browser")},
		{`[x, y, /browser]`, nil},
		{`[npx, "@modelcontextprotocol/server-filesystem", /data/memory]`, nil},
		{`[npx, "@modelcontextprotocol/server-filesystem"]`, roots},
		{`[npx, "@modelcontextprotocol/server-filesystem@1.0"]`, roots},
		{`[npx, "@modelcontextprotocol/server-filesystems"]`, nil},
	} {
		for mode, want := range map[string][]string{"shared": c.want, "per-agent": nil} {
			cfg := loadConfig(t, "upstreams: {a: {command: "+c.command+", sessions: "+mode+"}}", t.TempDir())
			if got := sharedWarnings(cfg.Upstreams[0]); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %q, want %q", c.command, mode, got, want)
			}
		}
	}
}

// TestStatelessHint: servers that are known to keep nothing are named, and nothing is shared for it.
func TestStatelessHint(t *testing.T) {
	var out, errs bytes.Buffer
	code := run([]string{
		"check", "--stdio", "time=uvx mcp-server-time==1.2 --local-timezone UTC", "--stdio", "files=npx @modelcontextprotocol/server-filesystem /data",
		"--stdio", "git=uvx mcp-server-git", "--stdio", "none=npx @modelcontextprotocol/server-filesystem", "--stdio", "other=uvx mcp-server-timely",
		"--shared", "git,none",
	}, &out, &errs)
	const want = "\nas far as is known, what keeps nothing for one agent but its roots: files, time; sessions: shared saves processes there (docs/stdio.md)\n"
	if code != 0 || !strings.Contains(out.String(), want) {
		t.Errorf("%d: %s%s", code, out.String(), errs.String())
	}
	for name, isShared := range map[string]bool{"time": false, "files": false, "git": true, "none": true, "other": false} {
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, name+" ") && strings.Contains(line, " stdio ") && strings.Contains(line, "sessions.mode shared") != isShared {
				t.Error(line)
			}
		}
	}
	if !strings.Contains(errs.String(), "warning: upstreams.none: sessions share one process, which cannot ask for roots") {
		t.Error(errs.String())
	}
	out.Reset()
	if code := run([]string{"check", "--stdio", "sh=sh -c true"}, &out, &errs); code != 0 || strings.Contains(out.String(), "as far as is known") {
		t.Errorf("%d: %s", code, out.String())
	}
	if code := run([]string{"check", "--stdio", "sh=sh", "--shared", "bash"}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "--shared bash: names no server; ") {
		t.Errorf("%d: %s", code, errs.String())
	}
}
