package npx_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// TestWhatNPXRuns: commands that are resolved, each beside what npx itself runs at that moment.
func TestWhatNPXRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, machinePath(t))
	r.publish(t, "one", "1.0.0", "one")
	r.publish(t, "@s/tool", "2.0.0", "mcp-tool")
	r.publish(t, "many", "1.0.0", "first", "many", "other")
	r.publish(t, "none-usual", "1.0.0", "first", "second")
	plays := map[string]func(*testing.T){
		"program of another name": func(t *testing.T) {
			if said := r.asNPX(t, "", "npx", "--yes", "@s/tool@2.0.0"); said.Program != "mcp-tool" {
				t.Errorf("ran %+v", said)
			}
		},
		"several programs": func(t *testing.T) {
			if said := r.asNPX(t, "", "npx", "-y", "many@1.0.0"); said.Program != "many" {
				t.Errorf("ran %+v", said)
			}
			if said := r.asNPX(t, "", "npx", "-y", "--package=many@1.0.0", "other", "-p"); said.Program != "other" {
				t.Errorf("ran %+v", said)
			}
			r.isMissing(t, "-y", "none-usual@1.0.0", "first, second", "could not determine executable")
		},
		"with -p": func(t *testing.T) {
			if said := r.asNPX(t, "", "npx", "-y", "-p", "none-usual@1.0.0", "second", "x"); said.Program != "second" {
				t.Errorf("ran %+v", said)
			}
			o := r.options("", "npx", "-y", "-p", "none-usual@1.0.0", "node", "-e", `console.log('{"package": "node"}')`)
			r.isWritten(t, o, "the package has no program node", "node")
		},
		"missing": func(t *testing.T) { r.isMissing(t, "-y", "no-such-package@1.0.0", "404", "404") },
		"tag": func(t *testing.T) {
			r.publish(t, "tagged", "1.0.0", "tagged")
			r.publish(t, "tagged", "2.0.0-rc.1", "tagged")
			r.registry.Tag("tagged", "next", "2.0.0-rc.1")
			r.registry.Tag("tagged", "latest", "1.0.0")
			if said := r.asNPX(t, "", "npx", "-y", "tagged@next"); said.Package != "tagged@2.0.0-rc.1 tagged" {
				t.Errorf("ran %+v", said)
			}
		},
		"range that moves": r.movingRange,
		"install script":   r.installScript,
		"EINTEGRITY":       r.damagedTarball,
		"registry away":    r.registryAway,
		"killed half way":  r.killedHalfWay,
		"caller leaves":    r.callerLeaves,
		"two daemons":      r.twoDaemons,
	}
	if said := r.asNPX(t, "", "npx", "-y", "one@1.0.0", "--flag", "a b", "$HOME", "--", ""); said.Package != "one@1.0.0 one" || strings.Join(said.Args, "|") != "--flag|a b|$HOME|--|" {
		t.Errorf("ran %+v", said)
	}
	for name, play := range plays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t)
		})
	}
}

// isMissing has neither the resolver nor npx run a package.
func (r *rig) isMissing(t *testing.T, flag, word, says, npxSays string) {
	t.Helper()
	u, err := r.entry("", "npx", flag, word).Resolve(t.Context())
	if written := new(npx.AsWritten); err == nil || errors.As(err, &written) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, %v; want an error with %s", word, u, err, says)
	}
	if _, err := r.run(t, "", r.env, []string{"npx", flag, word}); err == nil || !strings.Contains(err.Error(), npxSays) {
		t.Errorf("npx: %v", err)
	}
}

// movingRange: a newer version is not used by the start that finds it, and is by the next.
func (r *rig) movingRange(t *testing.T) {
	r.publish(t, "moves", "1.0.0", "moves")
	command := []string{"npx", "-y", "moves@^1"}
	if said := r.asNPX(t, "", command...); said.Package != "moves@1.0.0 moves" {
		t.Errorf("ran %+v", said)
	}
	r.publish(t, "moves", "1.1.0", "moves")
	r.publish(t, "moves", "2.0.0", "moves")
	asked := r.registry.Asked("moves")
	if said := r.runResolved(t, "", r.entry("", command...)); said.Package != "moves@1.0.0 moves" || r.registry.Asked("moves") != asked {
		t.Errorf("ran %+v, the registry was asked %d times", said, r.registry.Asked("moves")-asked)
	}
	o := r.options("", command...)
	o.Refresh = time.Nanosecond
	e := r.resolver.Entry(o)
	if said := r.runResolved(t, "", e); said.Package != "moves@1.0.0 moves" {
		t.Errorf("ran %+v", said)
	}
	within(t, "the new version", func() bool { version, _ := e.Version(); return version == "moves@1.1.0" })
	if said := r.asNPX(t, "", command...); said.Package != "moves@1.1.0 moves" {
		t.Errorf("ran %+v", said)
	}
}

// installScript: what runs while a package is installed does not see what the entry has by itself. The server does.
func (r *rig) installScript(t *testing.T) {
	r.registry.Publish(t, mcptest.NPMPackage{
		Name: "scripted", Version: "1.0.0", Bin: map[string]string{"scripted": "run.js"},
		Scripts: map[string]string{"postinstall": "node install.js"},
		Files: map[string]string{
			"install.js": `require("fs").writeFileSync("seen.json", JSON.stringify([process.cwd(), process.env.SECRET || "nothing"]))`,
			"run.js": "#!/usr/bin/env node\n" + `const [at, seen] = require("./seen.json");
console.log(JSON.stringify({package: seen, secret: process.env.SECRET, program: at === __dirname ? "in its place" : at}))`,
		},
	})
	o := r.options("", "npx", "-y", "scripted@1.0.0")
	o.Env = append(slices.Clone(o.Env), "SECRET=hush-hush")
	said := r.runResolved(t, "", r.resolver.Entry(o))
	if said.Package != "nothing" || said.Secret != "hush-hush" || said.Program != "in its place" {
		t.Errorf("the install script saw %q, the server %q, %s", said.Package, said.Secret, said.Program)
	}
	if said, err := r.run(t, "", o.Env, o.Command); err != nil || said.Package != "hush-hush" {
		t.Errorf("npx tells the install script %+v, %v: the test tests nothing", said, err)
	}
}

// damagedTarball: what is not what the registry promised is not run, and is tried again.
func (r *rig) damagedTarball(t *testing.T) {
	r.publish(t, "broken", "1.0.0", "broken")
	r.registry.Damage("broken", "1.0.0")
	r.isMissing(t, "-y", "broken@1.0.0", "EINTEGRITY", "EINTEGRITY")
	r.registry.Damage("broken", "1.0.0") // and back
	e := r.entry("", "npx", "-y", "broken@1.0.0")
	r.resolves(t, e)
	r.runResolved(t, "", e)
}

// TestNotResolved: where something else than the registry has a word in what npx runs, npx runs it.
func TestNotResolved(t *testing.T) {
	t.Parallel()
	r := newRig(t, machinePath(t))
	other := mcptest.NewNPMRegistry(t)
	for _, name := range []string{"one", "@corp/one"} {
		r.publish(t, name, "1.0.0", "one")
		other.Publish(t, mcptest.NPMPackage{
			Name: name, Version: "1.0.0", Bin: map[string]string{"one": "one.js"}, Files: map[string]string{"one.js": reporter("the other's " + name)},
		})
	}
	script := reporter("local")
	writeFiles(t, r.home, map[string]string{
		"rc/.npmrc":                               "@corp:registry=" + other.URL + "\n",
		"rc/package.json":                         `{}`,
		"rc/below/keep":                           "",
		"bin/node_modules/.bin/one":               script,
		"bin/below/keep":                          "",
		"space/package.json":                      `{"name": "space", "workspaces": ["packages/*"]}`,
		"space/packages/a/package.json":           `{"name": "a", "version": "1.0.0", "bin": {"one": "one.js"}}`,
		"space/packages/a/one.js":                 script,
		"own/package.json":                        `{"name": "own", "version": "1.0.0", "bin": {"one": "one.js"}}`,
		"own/one.js":                              script,
		"global/bin/globally":                     script,
		"installed/package.json":                  `{}`,
		"installed/node_modules/one/one.js":       script,
		"installed/node_modules/.bin/uno":         script,
		"installed/node_modules/one/package.json": `{"name": "one", "version": "1.0.0", "bin": {"uno": "one.js"}}`,
	})
	for name, c := range map[string]struct {
		dir     string
		command []string
		reason  string
		want    string // package
	}{
		".npmrc":          {"rc/below", []string{"npx", "-y", "@corp/one@1.0.0"}, "rc/.npmrc may name another registry", "the other's @corp/one"},
		"node_modules":    {"bin/below", []string{"npx", "-y", "one"}, "bin/node_modules/.bin/one is there", "local"},
		"local package":   {"installed", []string{"npx", "-y", "one@1.0.0"}, "installed/node_modules/one is there", "local"},
		"workspace":       {"space/packages/a", []string{"npx", "-y", "one"}, "packages/a/package.json is that package, or has that program", "local"},
		"above workspace": {"space", []string{"npx", "-y", "one@1.0.0"}, "the workspace " + r.home + "/space/packages/a is that package", "one@1.0.0 one"},
		"the project's":   {"own", []string{"npx", "-y", "one"}, "own/package.json is that package, or has that program", "local"},
		"global program":  {"", []string{"npx", "-y", "globally"}, "global/bin/globally is there", "local"},
		"unknown flag":    {"", []string{"npx", "-y", "--quiet", "one@1.0.0"}, "its flag --quiet is not known here", ""},
		"two packages":    {"", []string{"npx", "-y", "-p", "one@1.0.0", "-p", "@corp/one@1.0.0", "one"}, "it names 2 packages", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.isWritten(t, r.options(filepath.Join(r.home, c.dir), c.command...), c.reason, c.want)
		})
	}
}

// registryAway: what is installed runs after a restart of the daemon, also when its version is to be looked up again, and npm is
// not even asked for its settings. What is not installed is an error that says so.
func (r *rig) registryAway(t *testing.T) {
	r = r.another(t)
	r.publish(t, "leaves", "1.0.0", "leaves")
	o := r.options("", "npx", "-y", "leaves")
	r.runResolved(t, "", r.resolver.Entry(o))
	r.registry.SetAway("leaves")
	r.registry.SetAway("two")
	o.Refresh = time.Nanosecond
	guard, again := newResolver(t, r.cache, r.log)
	e := again.Entry(o)
	if said := r.runResolved(t, "", e); said.Package != "leaves@1.0.0 leaves" {
		t.Errorf("ran %+v", said)
	}
	within(t, "the failed look", func() bool {
		return strings.Contains(r.log.String(), "was not looked up again; what is installed runs")
	})
	within(t, "the end of npm", func() bool { return len(guard.Processes()) == 0 })
	r.runResolved(t, "", e)
	if n := strings.Count(r.log.String(), "was not looked up again"); n != 1 || len(guard.Processes()) != 0 {
		t.Errorf("looked up %d times, %d processes of npm run, soon after it failed", n, len(guard.Processes()))
	}
	_, err := again.Entry(r.options("", "npx", "-y", "two@1.0.0")).Resolve(t.Context())
	if err == nil || !strings.Contains(err.Error(), "installing two@1.0.0: npm install: exit status 1: code E") {
		t.Errorf("not installed: %v", err)
	}
	if n := len(r.installs(t)); n != 1 {
		t.Errorf("%d folders are there: %q", n, r.installs(t))
	}
}

// TestDiskFull: an install that cannot be written is none, and leaves nothing.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	machine := machinePath(t)
	bin := t.TempDir()
	r := newRig(t, bin+":"+machine)
	for _, program := range []string{"node", "npx"} {
		path, err := process.LookPath(program, "/", []string{"PATH=" + machine})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, program)); err != nil {
			t.Fatal(err)
		}
	}
	npm, err := process.LookPath("npm", "/", []string{"PATH=" + machine})
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(bin, "full.js")
	writeFiles(t, bin, map[string]string{
		"npm": "#!/bin/sh\n[ -e " + full + " ] && [ $1 = install ] && export NODE_OPTIONS=--require=" + full + "\nexec " + npm + " \"$@\"\n",
		"full.js": `const fs = require("fs")
const full = (...args) => process.nextTick(args.at(-1), Object.assign(new Error("ENOSPC: no space left on device, write"), {code: "ENOSPC", syscall: "write"}))
fs.write = full
fs.writev = full
`,
	})
	r.registry.Publish(t, mcptest.NPMPackage{
		Name: "large", Version: "1.0.0", Bin: map[string]string{"large": "large.js"},
		Files: map[string]string{"large.js": reporter("large")},
	})
	e := r.entry("", "npx", "-y", "large@1.0.0")
	if _, err := e.Resolve(t.Context()); err == nil || !strings.Contains(err.Error(), "ENOSPC") {
		t.Errorf("no room: %v", err)
	}
	if folders := r.installs(t); len(folders) != 0 {
		t.Errorf("%q is left", folders)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	r.resolves(t, e)
	if said := r.runResolved(t, "", e); said.Package != "large" {
		t.Errorf("ran %+v", said)
	}
}

// killedHalfWay: an install whose npm is killed leaves nothing, and is made by the next start that may.
func (r *rig) killedHalfWay(t *testing.T) {
	r = r.another(t)
	r.publish(t, "killed", "1.0.0", "killed")
	resume := r.registry.Stall("killed", "1.0.0")
	e := r.entry("", "npx", "-y", "killed@1.0.0")
	failed := make(chan error, 1)
	go func() {
		_, err := e.Resolve(t.Context())
		failed <- err
	}()
	r.registry.AwaitTarball(t, "killed", "1.0.0", 1)
	if half := r.installs(t); len(half) != 1 {
		t.Errorf("%q are there while it is installed", half)
	}
	for _, p := range r.guard.Processes() {
		_ = syscall.Kill(p.PID(), syscall.SIGKILL)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "killed by signal") {
		t.Errorf("npm was killed: %v", err)
	}
	if left := r.installs(t); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
	resume()
	r.resolves(t, e)
	r.runResolved(t, "", e)
}

// callerLeaves: an install goes on when nobody waits for it, and the next start has it. Meanwhile it is said what is done.
func (r *rig) callerLeaves(t *testing.T) {
	r = r.another(t)
	r.publish(t, "slow", "1.0.0", "slow")
	resume := r.registry.Stall("slow", "1.0.0")
	e := r.entry("", "npx", "-y", "slow@1.0.0")
	if doing := e.Doing(); doing != "" {
		t.Errorf("before it begins: %s", doing)
	}
	ctx, leave := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := e.Resolve(ctx)
		failed <- err
	}()
	r.registry.AwaitTarball(t, "slow", "1.0.0", 1)
	if doing := e.Doing(); !strings.HasPrefix(doing, "installing slow@1.0.0, for ") {
		t.Errorf("it is %q", doing)
	}
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "installing slow@1.0.0 goes on after") {
		t.Errorf("left with %v", err)
	}
	resume()
	if said := r.runResolved(t, "", e); said.Package != "slow@1.0.0 slow" || e.Doing() != "" {
		t.Errorf("ran %+v, it is %q", said, e.Doing())
	}
	if n := strings.Count(r.log.String(), "a package was installed"); n != 1 {
		t.Errorf("installed %d times", n)
	}
}

// twoDaemons: daemons that share a cache folder install a package once.
func (r *rig) twoDaemons(t *testing.T) {
	r = r.another(t)
	r.publish(t, "shared", "1.0.0", "shared")
	resume := r.registry.Stall("shared", "1.0.0")
	_, second := newResolver(t, r.cache, r.log)
	o := r.options("", "npx", "-y", "shared@1.0.0")
	uses := make(chan *npx.Use, 6)
	for _, resolver := range []*npx.Resolver{r.resolver, second} {
		for range 3 {
			go func() {
				u, err := resolver.Entry(o).Resolve(t.Context())
				if err != nil {
					t.Error(err)
				}
				uses <- u
			}()
		}
	}
	r.registry.AwaitTarball(t, "shared", "1.0.0", 1)
	resume()
	for range cap(uses) {
		if u := <-uses; u != nil {
			defer u.Release()
		}
	}
	if n := strings.Count(r.log.String(), "a package was installed"); n != 1 || len(r.installs(t)) != 1 {
		t.Errorf("installed %d times, %q are there", n, r.installs(t))
	}
	version, count := r.resolver.Entry(o).Version()
	if version != "shared@1.0.0" || count != 3 {
		t.Errorf("%s, used %d times", version, count)
	}
}
