package scenario

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/loadgen/localtools"
)

// toolRequests are how many calls of each of the local tools a round has: a build takes a thousand times as long as a read.
var toolRequests = map[string]int64{localtools.Filesystem: 500, localtools.Shell: 100, localtools.Compiler: 5}

// checkTools returns what does not fit the scenario tool_latency.
func checkTools(o *Options) error {
	names := strings.Join(localtools.Names(), ", ")
	switch {
	case o.Server == nil && o.Daemon == nil && o.OwnTool != "" && !slices.Contains(localtools.Names(), o.OwnTool):
		return fmt.Errorf("the benchmark's own server has no tool %q: it has %s; for a tool of yours give --daemon, --server or --command, too", o.OwnTool, names)
	case (o.Server != nil || o.Daemon != nil) && o.OwnTool == "":
		return errors.New("--tool says which tool of your server is called; without --daemon, --server and --command it is one of " + names)
	}
	return nil
}

// toolLatency makes one call after the other: of the user's tool, or of each of the local tools, over HTTP and over stdio.
func toolLatency(ctx context.Context, l *lab) error {
	if l.o.Server != nil || l.o.Daemon != nil {
		load := l.o.load(1, 500)
		subjects, err := l.subjects(ctx, load.Concurrency)
		if err != nil {
			return err
		}
		_, err = l.measure(ctx, experiment{name: l.o.OwnTool, load: load, subjects: subjects, work: l.o.work(), rounds: l.o.rounds()})
		return err
	}
	names, err := l.ownTools()
	if err != nil {
		return err
	}
	t, err := l.startTools(ctx, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, overStdio := range []bool{false, true} {
			if err := t.measure(ctx, name, overStdio); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownTools returns the local tools that are called. One that this machine has not what for is left out, and the report says so.
func (l *lab) ownTools() (names []string, err error) {
	for _, name := range localtools.Names() {
		if l.o.OwnTool != "" && name != l.o.OwnTool {
			continue
		}
		if missing := localtools.Missing(name); missing != nil {
			l.note("%s is left out: %v", name, missing)
			err = fmt.Errorf("%s is left out: %w", name, missing)
			continue
		}
		names = append(names, name)
	}
	if len(names) > 0 {
		err = nil
	}
	return names, err
}

// toolLab is what tool_latency has besides: the server with the local tools, and what keeps others from them.
type toolLab struct {
	*lab
	url     string
	command loadgen.Command
	token   string // of the daemons
}

// startTools starts the server with the local tools, and daemons in front of it that have it a second time as a command. Only who knows
// the path of the server and the token of the daemons reaches a tool: both are told in files of a directory that nobody else can read.
func (l *lab) startTools(ctx context.Context, names []string) (*toolLab, error) {
	dir := filepath.Join(l.dir, "tools")
	secret := "/" + rand.Text()
	err := errors.Join(os.Mkdir(dir, 0o700), localtools.Prepare(dir), os.WriteFile(filepath.Join(dir, secretFile), []byte(secret), 0o600))
	if err != nil {
		return nil, err
	}
	for _, name := range names { // the first build may have to compile Go's own packages, which takes longer than a call may
		if _, err := localtools.Run(ctx, dir, name); err != nil {
			return nil, fmt.Errorf("the tool %s: %w", name, err)
		}
	}
	own := append(slices.Clone(l.o.Own), "--tools", dir)
	l.server.end()
	if l.server, err = startServer(ctx, l.dir, own); err != nil {
		return nil, err
	}
	t := &toolLab{lab: l, url: "http://" + l.server.address + secret, token: rand.Text(), command: loadgen.Command{Args: append(own, "--stdio")}}
	c := command{Args: t.command.Args, Directory: dir, InheritEnv: []string{"*"}}
	yaml := inheritPath + fmt.Sprintf("auth: {token: %q}\nupstreams:\n  http: {url: %q}\n  stdio: %s\n", t.token, t.url, c.yaml())
	if l.o.NoDaemon {
		return t, nil
	}
	return t, l.startDaemons(ctx, true, yaml)
}

// measure measures one tool.
func (t *toolLab) measure(ctx context.Context, name string, overStdio bool) error {
	direct, err := loadgen.NewTarget(t.url, "")
	if err != nil {
		return err
	}
	transport := "http"
	if overStdio {
		transport, direct = "stdio", loadgen.NewCommandTarget(t.command)
	}
	subjects, err := t.subjectsOf(direct.With(t.o.Era), upstream{kind: "mcp", name: transport, era: t.o.Era})
	if err != nil {
		return err
	}
	for _, s := range subjects[1:] {
		if s.same == nil {
			s.target.Fields = []string{"Proxy-Authorization: Bearer " + t.token}
			s.metrics = s.target
		}
	}
	load := t.o.load(1, toolRequests[name])
	k := loadgen.ToolCall(name, fastserver.Arguments(loadgen.KeyMark)) // the key tells calls apart, and nothing else
	k.Result = fastserver.ExtraResult(localtools.Result(name))
	_, err = t.lab.measure(ctx, experiment{
		name: name + " over " + map[bool]string{false: "HTTP", true: "stdio"}[overStdio], load: load, subjects: subjects, rounds: t.o.rounds(),
		work: func() *loadgen.Work { return loadgen.Only(k) },
	})
	return err
}
