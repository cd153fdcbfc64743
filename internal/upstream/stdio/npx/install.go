package npx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/safefile"
	"fluentd-perf/internal/upstream/stdio/process"
)

const (
	maxOutput  = 4 << 20 // bytes of what npm says on stdout
	shownLines = 6       // of npm's stderr, in an error
)

// quiet are flags of npm that leave out what nobody reads, and what a person's settings may ask for that is no install.
var quiet = []string{
	"--audit=false", "--fund=false", "--update-notifier=false", "--progress=false", "--loglevel=error", "--logs-max=0", "--global=false",
	"--dry-run=false", "--package-lock=true", "--package-lock-only=false",
}

// npmCommand is a command of npm that works in a folder.
func npmCommand(npm, command, folder string, words ...string) []string {
	return slices.Concat([]string{npm, command, "--prefix", folder}, quiet, words)
}

// update begins to install what an entry has not, or is to have anew.
func (e *Entry) update(p plan, u urgency) *job {
	return e.r.do(attempt{p.key, u}, "installing "+p.request.String(), func(ctx context.Context) error {
		err := e.r.update(ctx, p, &e.opts, u)
		if text := failedForNobody[u]; err != nil && text != "" && ctx.Err() != context.Canceled { // its time being over is such a failure, too
			e.r.opts.Log.Warn(text, "upstream", e.opts.Name, "package", p.request.String(), "error", err)
		}
		return err
	})
}

// failedForNobody is what the log says of jobs that failed and for which nobody waits.
var failedForNobody = map[urgency]string{
	behind: "a package was not looked up again; what is installed runs",
	ahead:  "a package was not installed ahead of its first use, which will try again",
}

// acquire takes a slot of this daemon and the lock of a package among all daemons. Who waits for one of them has not the other: neither
// does a lock that another daemon has take a slot from other packages, nor a queue for slots a package from another daemon.
func (r *Resolver) acquire(ctx context.Context, key string) (release func(), err error) {
	return whenUnlocked(ctx, func() (func(), error) {
		if err := r.slots.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		unlock, err := r.store.tryLock(key)
		if err != nil {
			r.slots.Release(1)
			return nil, err
		}
		return func() { unlock(); r.slots.Release(1) }, nil
	})
}

// update brings a package's folder up to date. What there is to do is decided under the lock: another daemon may have done it.
func (r *Resolver) update(ctx context.Context, p plan, e *EntryOptions, u urgency) error {
	release, err := r.acquire(ctx, p.key)
	if err != nil {
		return err
	}
	defer release()
	if err := makeFolder(filepath.Join(r.opts.Dir, p.key)); err != nil {
		return err
	}
	rec := r.store.read(p.key)
	r.store.removeStrays(p.key, rec)
	switch {
	case len(rec.Installs) == 0 && u == behind: // it was removed, and nobody waits for it
	case len(rec.Installs) == 0:
		return r.installFirst(ctx, p, e, rec)
	case u == ahead: // somebody else has installed it
	case u == repaired && r.toRepair(p.key, rec):
		return r.repair(ctx, p, e, rec)
	case p.due(rec, e.Refresh):
		return r.refresh(ctx, p, e, rec)
	}
	return nil
}

// installFirst installs what npx would run now.
func (r *Resolver) installFirst(ctx context.Context, p plan, e *EntryOptions, rec record) error {
	word := p.request.String()
	if !p.pinned() {
		if version, err := r.lookup(ctx, p, e); err == nil {
			word = p.name + "@" + version
		} else if ctx.Err() != nil {
			return err
		} // else npm install says what is wrong
	}
	i, err := r.install(ctx, p, e, word)
	if err != nil {
		return err
	}
	rec.Package, rec.Installs, rec.Checked = p.request.String(), []install{i}, time.Now()
	return r.commit(p.key, rec)
}

// refresh looks up the version, and installs another one.
func (r *Resolver) refresh(ctx context.Context, p plan, e *EntryOptions, rec record) error {
	version, err := r.lookup(ctx, p, e)
	if err != nil {
		return err
	}
	rec.Checked = time.Now()
	if version != rec.Installs[0].Version {
		i, err := r.install(ctx, p, e, p.name+"@"+version)
		if err != nil {
			return err
		}
		rec.Installs = append([]install{i}, rec.Installs...)
	}
	return r.commit(p.key, rec)
}

// repair installs the same version again in place of a damaged install.
func (r *Resolver) repair(ctx context.Context, p plan, e *EntryOptions, rec record) error {
	i, err := r.install(ctx, p, e, p.name+"@"+rec.Installs[0].Version)
	if err != nil {
		return err
	}
	rec.Repaired = time.Now()
	rec.Installs[0] = i
	return r.commit(p.key, rec)
}

// commit has a record hold from now on, and removes what it does not have any more. Where it fails nothing has changed.
func (r *Resolver) commit(key string, rec record) error {
	if err := r.store.write(key, rec); err != nil {
		r.store.removeStrays(key, r.store.read(key))
		return fmt.Errorf("noting what is installed: %w", err)
	}
	if old := 1 + oldVersions; len(rec.Installs) > old {
		if err := r.store.drop(key, &rec, old); err != nil {
			r.opts.Log.Debug("old versions of a package stay for now", "package", rec.Package, "error", err)
		}
	}
	r.store.removeStrays(key, rec)
	r.forget(key, rec)
	return nil
}

// install installs one version of a package. What is left of it where it fails is removed.
func (r *Resolver) install(ctx context.Context, p plan, e *EntryOptions, word string) (i install, err error) {
	begun := time.Now()
	r.opts.Log.Info("a package is being installed", "upstream", e.Name, "package", word)
	i = install{ID: newID(), Name: p.name}
	folder := r.store.folder(p.key, i.ID)
	if err := r.makeProject(p.key, i.ID, `{"private":true}`); err != nil {
		return i, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("installing %s: %w", word, err)
			r.store.remove(p.key, i.ID)
		}
	}()
	if _, err = r.run(ctx, e, p.tools, folder, npmCommand(p.npm, "install", folder, "--", word)...); err != nil {
		return i, err
	}
	tree, err := readTree(folder, p.name)
	if err != nil {
		return i, err
	}
	i.Version, i.Bin, i.Bytes = tree.Version, tree.Bin, sizeOf(folder)
	r.opts.Log.Info("a package was installed", "upstream", e.Name, "package", i.Name+"@"+i.Version, "bytes", i.Bytes, "took", time.Since(begun).Round(time.Millisecond))
	return i, nil
}

// makeProject makes a folder for npm to work in, which it does not look beyond.
func (r *Resolver) makeProject(key, id, manifest string) error {
	folder := r.store.folder(key, id)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	err := safefile.Create(filepath.Join(folder, "package.json"), []byte(manifest), os.Rename)
	if err != nil {
		r.store.remove(key, id)
	}
	return err
}

// lookup returns the version that npm would install now. npm tells it of what a project has not yet. From its own cache it would also
// tell it while the registry is away.
func (r *Resolver) lookup(ctx context.Context, p plan, e *EntryOptions) (version string, err error) {
	id, spec := newID(), p.spec
	if spec == "" {
		spec = "*"
	}
	project, err := json.Marshal(map[string]any{"private": true, "dependencies": map[string]string{p.name: spec}})
	if err != nil {
		return "", err
	}
	if err := r.makeProject(p.key, id, string(project)); err != nil {
		return "", err
	}
	defer r.store.remove(p.key, id)
	folder := r.store.folder(p.key, id)
	said, err := r.run(ctx, e, p.tools, folder, npmCommand(p.npm, "outdated", folder, "--json", "--cache", filepath.Join(folder, "cache"))...)
	if exited := new(exitError); err != nil && (!errors.As(err, &exited) || exited.code != 1) { // 1: something is outdated
		return "", err
	}
	var found map[string]struct {
		Wanted string `json:"wanted"`
	}
	if json.Unmarshal(said, &found) != nil || !exactVersion.MatchString(found[p.name].Wanted) {
		return "", fmt.Errorf("the registry has no version %s of %s", spec, p.name)
	}
	return found[p.name].Wanted, nil
}

// exitError is the error of a program that ended with another code than 0.
type exitError struct {
	program string
	exit    string
	code    int
	stderr  []string
}

func (e *exitError) Error() string {
	return fmt.Sprintf("%s: %s%s", e.program, e.exit, saidBy(e.stderr))
}

// saidBy returns the first lines of npm's complaint.
func saidBy(stderr []string) string {
	var lines []string
	for _, line := range stderr {
		if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "npm ERR!"), "npm error")); line != "" && len(lines) < shownLines {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, " | ")
}

// run runs npm or node to its end, without stdin, and returns what it wrote to stdout.
func (r *Resolver) run(ctx context.Context, e *EntryOptions, t tools, dir string, command ...string) ([]byte, error) {
	p, err := r.opts.Start(ctx, process.Spec{Name: e.Name, Command: command, Dir: dir, Env: withPath(e.NPMEnv, filepath.Dir(t.node))})
	if err != nil {
		return nil, err
	}
	p.Stdin().Close()
	read := make(chan []byte, 1)
	go func() {
		defer close(read)
		defer p.Stdout().Close()
		said, err := io.ReadAll(io.LimitReader(p.Stdout(), maxOutput))
		if err == nil {
			_, err = io.Copy(io.Discard, p.Stdout())
		}
		if err == nil {
			read <- said
		}
	}()
	select {
	case <-p.Gone():
	case <-ctx.Done():
		p.Stop()
		<-p.Gone()
	}
	_ = p.Stdout().SetReadDeadline(time.Now().Add(time.Second)) // what is written is there; whoever holds it open is none of ours
	said := <-read
	switch exit := p.Exit(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case exit.String() != "exit status 0":
		return bytes.TrimSpace(said), &exitError{filepath.Base(command[0]) + " " + strings.Join(command[1:min(len(command), 2)], " "), exit.String(), exit.Code, p.Stderr()}
	}
	return bytes.TrimSpace(said), nil
}
