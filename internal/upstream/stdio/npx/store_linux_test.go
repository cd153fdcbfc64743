package npx_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// quickNPM does in milliseconds what the tests below need of npm: the files in its HOME say what, and npm.log has what it was asked.
const quickNPM = `#!/bin/sh
echo "$*" >>"$HOME/npm.log"
fail() { echo "npm error code ECONNREFUSED" >&2; exit 1; }
case $1 in
config)
  cat "$HOME/config.json" ;;
outdated)
  [ -e "$HOME/away" ] && fail
  name=$(sed 's/.*"dependencies":{"\([^"]*\)".*/\1/' "$3/package.json")
  echo "{\"$name\": {\"wanted\": \"$(cat "$HOME/wanted")\"}}"
  exit 1 ;;
install)
  for word; do :; done
  echo begins >>"$HOME/slots"
  while [ -e "$HOME/hold" ]; do sleep 0.01; done
  [ -e "$HOME/away" ] && fail
  bin=$3/node_modules/.bin name=${word%@*}
  mkdir -p "$bin"
  echo "{\"packages\": {\"node_modules/$name\": {\"version\": \"${word##*@}\", \"bin\": {\"$name\": \"run\"}}}}" >"$3/node_modules/.package-lock.json"
  printf '#!/bin/sh\necho ran\n' >"$bin/$name"
  chmod +x "$bin/$name"
  echo ends >>"$HOME/slots" ;;
esac
`

// newQuickRig makes a rig whose npm is quick.
func newQuickRig(t *testing.T) *rig {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("these tests run node (make setup): %v", err)
	}
	bin := t.TempDir()
	writeFiles(t, bin, map[string]string{"npm": quickNPM, "npx": "#!/bin/sh\n"})
	if err := os.Symlink(node, filepath.Join(bin, "node")); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, bin+":/usr/bin:/bin")
	r.configure(t, nil)
	r.say(t, "wanted", "1.0.0")
	return r
}

// configure sets what npm says of its settings.
func (r *rig) configure(t *testing.T, changed map[string]any) {
	t.Helper()
	config := map[string]any{
		"npm-version": "11.0.0", "prefix": r.home + "/global", "userconfig": r.home + "/.npmrc", "globalconfig": r.home + "/globalrc",
		"registry": "http://r/", "yes": nil, "package": []string{}, "call": "", "location": "user",
	}
	for key, value := range changed {
		config[key] = value
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	r.say(t, "config.json", string(text))
}

// say puts a file into the home, which npm may read at any time.
func (r *rig) say(t *testing.T, name, text string) {
	t.Helper()
	writeFiles(t, r.home, map[string]string{"new": text})
	if err := os.Rename(filepath.Join(r.home, "new"), filepath.Join(r.home, name)); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) unsay(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(r.home, name)); err != nil {
		t.Fatal(err)
	}
}

// asked counts what npm was asked that begins so.
func (r *rig) asked(what string) int {
	text, _ := os.ReadFile(filepath.Join(r.home, "npm.log")) // it was asked nothing
	return strings.Count("\n"+string(text), "\n"+what)
}

// use resolves a command.
func use(t *testing.T, e *npx.Entry) *npx.Use {
	t.Helper()
	u, err := e.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// changing is an entry whose version is looked up again at each start.
func (r *rig) changing(command ...string) *npx.Entry {
	o := r.options("", command...)
	o.Refresh = time.Nanosecond
	return r.resolver.Entry(o)
}

// release has the registry offer another version, and waits until it is there.
func (r *rig) release(t *testing.T, e *npx.Entry, version string) {
	t.Helper()
	r.say(t, "wanted", version)
	within(t, "version "+version, func() bool {
		use(t, e).Release() // which looks, unless the look before is not quite over
		got, _ := e.Version()
		return got == "pkg@"+version
	})
}

// TestRefresh: a version is looked up when it is older than processes.refresh, an exact one never.
func TestRefresh(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, "wanted", "1.5.0")
	for _, command := range [][]string{{"npx", "-y", "pkg"}, {"npx", "-y", "pkg@1.0.0"}, {"npx", "-y", "-p", "pkg@1.0.0", "pkg"}} {
		e := r.entry("", command...)
		use(t, e).Release()
		use(t, e).Release()
	}
	if looked, installed := r.asked("outdated"), r.asked("install"); looked != 1 || installed != 2 || r.asked("config") != 1 {
		t.Errorf("looked up %d times, installed %d times, asked %d times for its settings", looked, installed, r.asked("config"))
	}
	use(t, r.changing("npx", "-y", "pkg@1.0.0")).Release()
	same := r.changing("npx", "-y", "pkg")
	use(t, same).Release()
	within(t, "the look", func() bool { return r.asked("outdated") == 2 })
	within(t, "the end of npm", func() bool { return len(r.guard.Processes()) == 0 })
	if installed := r.asked("install"); installed != 2 {
		t.Errorf("installed %d times, and the version is the same", installed)
	}
}

// TestOldVersions: two stay beside the one in use, and so does what a process runs from, another daemon's too.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e := r.changing("npx", "-y", "pkg")
	first := use(t, e)
	_, other := newResolver(t, r.cache, r.log)
	r.release(t, e, "1.0.1")
	o := r.options("", "npx", "-y", "pkg")
	second := use(t, other.Entry(o))
	for n := 2; n < 7; n++ {
		r.release(t, e, fmt.Sprintf("1.0.%d", n))
	}
	within(t, "the latest, two old ones and two in use", func() bool { return len(r.installs(t)) == 5 })
	for _, u := range []*npx.Use{first, second} {
		if said, err := exec.Command(u.Command[0]).Output(); err != nil || string(said) != "ran\n" {
			t.Errorf("%s says %q, %v", u.Package, said, err)
		}
		u.Release()
	}
	if first.Package != "pkg@1.0.0" || second.Package != "pkg@1.0.1" {
		t.Errorf("used %s and %s", first.Package, second.Package)
	}
	r.release(t, e, "1.0.7")
	within(t, "the latest and two old ones", func() bool { return len(r.installs(t)) == 3 })
}

// age has everything in the cache look as if it was last used so long ago.
func (r *rig) age(t *testing.T, by time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.cache, "*", "*.json"))
	settings, serr := filepath.Glob(filepath.Join(r.cache, "*.json"))
	if err = errors.Join(err, serr); err != nil || len(files) == 0 {
		t.Fatalf("%q, %q, %v", files, settings, err)
	}
	at := time.Now().Add(-by)
	for _, path := range append(files, settings...) {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnused: what nobody has used for 30 days goes, but not from under a process.
func TestUnused(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	used := use(t, r.entry("", "npx", "-y", "pkg@1.0.0"))
	use(t, r.entry("", "npx", "-y", "pkg@2.0.0")).Release()
	r.age(t, 29*24*time.Hour)
	_, old := newResolver(t, r.cache, r.log)
	old.Stop()
	old.Wait()
	if folders := r.installs(t); len(folders) != 2 {
		t.Errorf("%q are left after 29 days", folders)
	}
	r.age(t, 31*24*time.Hour)
	_, old = newResolver(t, r.cache, r.log)
	old.Stop()
	old.Wait()
	folders := r.installs(t)
	if len(folders) != 1 || !strings.HasPrefix(used.Command[0], folders[0]+"/") {
		t.Errorf("%q are left after 31 days", folders)
	}
	use(t, r.entry("", "npx", "-y", "pkg@1.0.0")).Release() // which is a use
	used.Release()
	_, old = newResolver(t, r.cache, r.log)
	old.Stop()
	old.Wait()
	if folders := r.installs(t); len(folders) != 1 {
		t.Errorf("%q are left, and one was used just now", folders)
	}
	r.age(t, 31*24*time.Hour)
	r.entry("", "npx", "-y", "pkg@1.0.0").Prepare() // which is a use, too
	within(t, "a use", func() bool {
		records, err := filepath.Glob(filepath.Join(r.cache, "*", "record.json"))
		if err != nil || len(records) != 1 {
			return false
		}
		info, err := os.Stat(records[0])
		return err == nil && time.Since(info.ModTime()) < time.Hour
	})
	_, old = newResolver(t, r.cache, r.log)
	old.Stop()
	old.Wait()
	if folders := r.installs(t); len(folders) != 1 {
		t.Errorf("%q are left, and an entry has one", folders)
	}
	r.age(t, 31*24*time.Hour)
	_, old = newResolver(t, r.cache, r.log)
	old.Stop()
	old.Wait()
	left, err := os.ReadDir(r.cache)
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

// TestPurge: everything goes but what a process runs from, and the bytes are told.
func TestPurge(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	used := use(t, r.entry("", "npx", "-y", "pkg@1.0.0"))
	use(t, r.entry("", "npx", "-y", "pkg@2.0.0")).Release()
	e := r.changing("npx", "-y", "pkg")
	use(t, e).Release()
	r.release(t, e, "3.0.0")
	all := r.resolver.Totals()
	if all.Installs != 4 || all.InUse != 1 || all.Bytes < 400 {
		t.Errorf("there are %+v", all)
	}
	removed, left := r.resolver.Purge(t.Context())
	if removed.Installs != 3 || left.Installs != 1 || left.InUse != 1 || removed.Bytes+left.Bytes != all.Bytes || left.Bytes == 0 {
		t.Errorf("removed %+v, left %+v", removed, left)
	}
	folders := r.installs(t)
	if len(folders) != 1 || !strings.HasPrefix(used.Command[0], folders[0]+"/") {
		t.Errorf("%q are left", folders)
	}
	use(t, r.entry("", "npx", "-y", "pkg@2.0.0")).Release()
	used.Release()
	if _, left := r.resolver.Purge(t.Context()); left != (npx.Totals{}) || len(r.installs(t)) != 0 {
		t.Errorf("left %+v: %q", left, r.installs(t))
	}
}

// TestPurgedBeforeLook: what was purged is not installed again by a look that nobody waits for.
func TestPurgedBeforeLook(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e := r.changing("npx", "-y", "pkg")
	use(t, e).Release()
	r.say(t, "hold", "")
	done := make(chan error, 2)
	for n := range cap(done) { // they have both slots
		other := r.entry("", "npx", "-y", fmt.Sprintf("pkg@%d.0.0", n))
		go func() {
			u, err := other.Resolve(t.Context())
			if err == nil {
				u.Release()
			}
			done <- err
		}()
	}
	within(t, "two installs", func() bool { return r.asked("install") == 3 })
	use(t, e).Release() // which begins a look, that waits
	r.resolver.Purge(canceled())
	if version, _ := e.Version(); version != "" {
		t.Errorf("%s is there after the purge", version)
	}
	r.unsay(t, "hold")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.resolver.Stop()
	r.resolver.Wait()
	if version, _ := e.Version(); version != "" || r.asked("install") != 3 {
		t.Errorf("%s was installed again: %d installs", version, r.asked("install"))
	}
}

// TestPurgeBesideStarts: a start never gets an install that is being removed.
func TestPurgeBesideStarts(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	_, other := newResolver(t, r.cache, r.log)
	e := r.entry("", "npx", "-y", "pkg@1.0.0")
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				other.Purge(canceled())
			}
		}
	}()
	for range 40 {
		u := use(t, e)
		for range 100 {
			if _, err := os.Stat(u.Command[0]); err != nil {
				t.Errorf("removed while it is in use: %v", err)
				break
			}
		}
		u.Release()
	}
	close(stop)
	<-ended
}

// TestDamaged: an install whose start says that something is missing is made again, it alone, and once a day.
func TestDamaged(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e, other := r.entry("", "npx", "-y", "pkg@1.0.0"), r.entry("", "npx", "-y", "pkg@2.0.0")
	use(t, other).Release()
	first := use(t, e)
	first.Failed([]string{"Error: cannot listen"})
	second := use(t, e)
	if second.Command[0] != first.Command[0] {
		t.Error("made again after another failure")
	}
	second.Failed([]string{"    at x.js", "  code: 'ERR_MODULE_NOT_FOUND',"})
	third := use(t, e)
	if third.Command[0] == first.Command[0] || third.Package != "pkg@1.0.0" || r.asked("install") != 3 {
		t.Errorf("%q after %q, npm was asked %d times", third.Command, first.Command, r.asked("install"))
	}
	if _, err := os.Stat(first.Command[0]); err != nil {
		t.Errorf("what is in use is gone: %v", err)
	}
	for _, u := range []*npx.Use{first, second, third} {
		u.Release()
	}
	third.Failed([]string{"npm error code EINTEGRITY"})
	fourth := use(t, e)
	fourth.Release()
	if fourth.Command[0] != third.Command[0] {
		t.Error("made again twice a day")
	}
	r.repairedBefore(t, 25*time.Hour)
	r.say(t, "away", "")
	begun := time.Now()
	for range 3 {
		u := use(t, e)
		u.Release()
		if u.Command[0] != third.Command[0] {
			t.Errorf("%q, and the registry is away", u.Command)
		}
	}
	isQuick := time.Since(begun) < 4*time.Second // or another repair was due
	r.unsay(t, "away")
	within(t, "the repair of the next day", func() bool {
		u := use(t, e)
		defer u.Release()
		return u.Command[0] != third.Command[0]
	})
	if _, err := os.Stat(first.Command[0]); err == nil {
		t.Error("the damaged install is still there, and nobody uses it")
	}
	if u := use(t, other); u.Package != "pkg@2.0.0" {
		t.Errorf("the other one is %s", u.Package)
	} else {
		u.Release()
	}
	if n := r.asked("install --prefix " + r.cache); n != 5 && isQuick { // two, the repair, one that failed, the repair of the next day
		t.Errorf("npm installed %d times", n)
	}
}

// repairedBefore has all repairs look older.
func (r *rig) repairedBefore(t *testing.T, by time.Duration) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(r.cache, "*", "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range records {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(text, &record); err != nil {
			t.Fatal(err)
		}
		record["repaired"] = time.Now().Add(-by)
		if text, err = json.Marshal(record); err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestInstallSlots: of many packages two are installed at the same time.
func TestInstallSlots(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, "hold", "")
	done := make(chan error, 8)
	for n := range cap(done) {
		e := r.entry("", "npx", "-y", fmt.Sprintf("pkg@%d.0.0", n))
		go func() {
			u, err := e.Resolve(t.Context())
			if err == nil {
				u.Release()
			}
			done <- err
		}()
	}
	within(t, "two installs", func() bool { return r.asked("install") >= 2 })
	r.unsay(t, "hold")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(r.home, "slots"))
	if err != nil {
		t.Fatal(err)
	}
	now, highest := 0, 0
	for line := range strings.Lines(string(text)) {
		if now--; strings.HasPrefix(line, "begins") {
			now += 2
		}
		highest = max(highest, now)
	}
	if highest != 2 || r.asked("install") != cap(done) {
		t.Errorf("%d installs, %d at the same time", r.asked("install"), highest)
	}
}

// beginInstall resolves a version of the package, and waits until that is installing and npm has been asked for so many installs in all.
// What came of it goes to done.
func (r *rig) beginInstall(t *testing.T, of *npx.Resolver, version string, installs int, done chan<- error) {
	t.Helper()
	e := of.Entry(r.options("", "npx", "-y", "pkg@"+version))
	go func() {
		u, err := e.Resolve(t.Context())
		if err == nil {
			u.Release()
		}
		done <- err
	}()
	within(t, "the install of "+version, func() bool {
		return r.asked("install") == installs && strings.HasPrefix(e.Doing(), "installing")
	})
}

// TestLockTakesNoSlot: who waits for what another daemon installs is in nobody's way.
func TestLockTakesNoSlot(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	_, another := newResolver(t, r.cache, r.log)
	r.say(t, "hold", "")
	done := make(chan error, 5)
	begin := func(of *npx.Resolver, version string, installs int) { r.beginInstall(t, of, version, installs, done) }
	begin(another, "1.0.0", 1)
	begin(another, "2.0.0", 2)
	begin(r.resolver, "1.0.0", 2)
	begin(r.resolver, "2.0.0", 2)
	begin(r.resolver, "3.0.0", 3)
	r.unsay(t, "hold")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := r.asked("install"); n != 3 {
		t.Errorf("npm installed %d times", n)
	}
}

// TestSlotTakesNoLock: a package that waits for a slot of one daemon is installed by another one that has slots free.
func TestSlotTakesNoLock(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	_, another := newResolver(t, r.cache, r.log)
	r.say(t, "hold", "")
	done := make(chan error, 4)
	begin := func(of *npx.Resolver, version string, installs int) { r.beginInstall(t, of, version, installs, done) }
	begin(r.resolver, "1.0.0", 1)
	begin(r.resolver, "2.0.0", 2)
	begin(r.resolver, "3.0.0", 2)
	begin(another, "3.0.0", 3)
	r.unsay(t, "hold")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := r.asked("install"); n != 3 {
		t.Errorf("npm installed %d times", n)
	}
}

// TestPrepare: what is configured is installed before anybody asks, one package at a time, so that a start which needs another one finds
// a slot. What is installed is left as it is.
func TestPrepare(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, "hold", "")
	entries := make([]*npx.Entry, 3)
	for n := range entries {
		entries[n] = r.entry("", "npx", "-y", fmt.Sprintf("pkg@%d.0.0", n))
		entries[n].Prepare()
	}
	r.entry("", "node", "server.js").Prepare() // which is no package
	within(t, "an install", func() bool { return r.asked("install") == 1 })
	done := make(chan error, 1)
	go func() {
		u, err := r.entry("", "npx", "-y", "pkg@9.0.0").Resolve(t.Context())
		if err == nil {
			u.Release()
		}
		done <- err
	}()
	within(t, "the install of a start", func() bool { return r.asked("install") == 2 })
	r.unsay(t, "hold")
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		within(t, "a prepared package", func() bool { version, _ := e.Version(); return version != "" })
		use(t, e).Release()
	}
	again := r.changing("npx", "-y", "pkg@0.0.0 - 9.0.0")
	use(t, again).Release()
	within(t, "the look behind its start", func() bool { return r.asked("outdated") == 2 })
	installed, looked := r.asked("install"), r.asked("outdated")
	again.Prepare()
	entries[0].Prepare()
	last := r.entry("", "npx", "-y", "pkg@10.0.0") // after which those before have been prepared, too
	last.Prepare()
	within(t, "the last package", func() bool { version, _ := last.Version(); return version != "" })
	if n := r.asked("install"); n != installed+1 || r.asked("outdated") != looked {
		t.Errorf("installed %d times, looked up %d times: want %d and %d", n, r.asked("outdated"), installed+1, looked)
	}
}

// TestPrepareFails: what cannot be installed ahead is in the log, and a start tries at once.
func TestPrepareFails(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, "away", "")
	e := r.entry("", "npx", "-y", "pkg@1.0.0")
	e.Prepare()
	within(t, "the word of it", func() bool {
		return strings.Contains(r.log.String(), "a package was not installed ahead of its first use, which will try again") &&
			strings.Contains(r.log.String(), "ECONNREFUSED")
	})
	r.unsay(t, "away")
	r.resolves(t, e)
	if n := r.asked("install"); n != 2 {
		t.Errorf("npm installed %d times", n)
	}
	r.resolver.Stop()
	r.entry("", "npx", "-y", "pkg@2.0.0").Prepare() // nothing begins after a stop
	r.resolver.Wait()
	if n := r.asked("install"); n != 2 {
		t.Errorf("npm installed %d times, after the stop too", n)
	}
}

// TestStrays: what an install left that a daemon's end has broken off goes with the next one, and a record that nobody understands is none.
func TestStrays(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e := r.entry("", "npx", "-y", "pkg@1.0.0")
	u := use(t, e)
	u.Release()
	key := filepath.Dir(r.installs(t)[0])
	writeFiles(t, key, map[string]string{"half/node_modules/x": "", "half.use": "", "record.json": `{"format": 99}`})
	if version, _ := e.Version(); version != "" {
		t.Errorf("it is %s", version)
	}
	again := use(t, e)
	again.Release()
	if folders := r.installs(t); len(folders) != 1 || again.Command[0] == u.Command[0] {
		t.Errorf("%q are there", folders)
	}
}

// TestSettings: what npm says of itself holds until its files change, and may be in the way.
func TestSettings(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e, unasked := r.entry("", "npx", "-y", "pkg@1.0.0"), r.entry("", "npx", "pkg@1.0.0")
	use(t, e).Release()
	use(t, unasked).Release()
	asked := 1
	for _, c := range []struct {
		what    string
		change  func()
		reason  string // for -y
		no      string // without it
		install bool
	}{
		{"yes", func() { r.configure(t, map[string]any{"yes": false}) }, "", "npm's setting yes is false", false},
		{"registry", func() { r.configure(t, map[string]any{"registry": "http://other/"}) }, "", "", true},
		{"registry of a scope", func() { r.configure(t, map[string]any{"@s:registry": "http://other/"}) }, "", "", true},
		{"old npm", func() { r.configure(t, map[string]any{"npm-version": "6.14.0"}) }, "npm 6.14.0 is older than 7", "npm 6", false},
		{"package", func() { r.configure(t, map[string]any{"package": []string{"x"}}) }, "npm's setting package is not the usual one", "package", false},
		{"linked", func() { r.configure(t, map[string]any{"install-strategy": "linked"}) }, "install-strategy is linked", "linked", false},
		{"userconfig", func() { r.configure(t, map[string]any{"userconfig": "/elsewhere"}) }, "npm's userconfig is /elsewhere", "userconfig", false},
	} {
		c.change()
		r.say(t, ".npmrc", "# "+c.what+"\n")
		before := r.asked("install")
		for _, one := range []struct {
			e      *npx.Entry
			reason string
		}{{e, c.reason}, {unasked, c.no}} {
			u, err := one.e.Resolve(t.Context())
			if err == nil {
				u.Release()
			}
			if (one.reason == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), one.reason) {
				t.Errorf("%s: %v, want %q", c.what, err, one.reason)
			}
		}
		if asked++; r.asked("config") != asked {
			t.Errorf("%s: asked %d times, want %d", c.what, r.asked("config"), asked)
		}
		if got := r.asked("install") - before; got != map[bool]int{true: 1}[c.install] {
			t.Errorf("%s: installed %d times", c.what, got)
		}
	}
}

// TestConfusion: what only the entry has may say where packages come from, and then npx looks for them. So it is where another Node.js
// would run them.
func TestConfusion(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, ".npmrc", "//r/:_authToken=${CORP_TOKEN}\n")
	elsewhere := t.TempDir()
	writeFiles(t, elsewhere, map[string]string{
		"shims/npx": "#!/bin/sh\n", "shims/npm": "#!/bin/sh\n", "shims/node": "#!/bin/sh\n",
		"manager/npx": "#!/bin/sh\n", "manager/npm": "#!/bin/sh\n", "manager/tool": "#!/bin/sh\n",
		"alone/npx": "#!/bin/sh\n", "another/node": "#!/bin/sh\n", "theirs/keep": "",
	})
	if err := os.Symlink("tool", filepath.Join(elsewhere, "manager", "node")); err != nil {
		t.Fatal(err)
	}
	path := func(dirs ...string) string {
		var all []string
		for _, dir := range dirs {
			all = append(all, filepath.Join(elsewhere, dir))
		}
		return "PATH=" + strings.Join(append(all, strings.TrimPrefix(r.env[1], "PATH=")), ":")
	}
	for _, c := range []struct{ variable, reason string }{
		{"npm_config_registry=http://corp/", "the entry has its own npm_config_registry, which npm reads"},
		{"NPM_CONFIG__AUTH=x", "the entry has its own NPM_CONFIG__AUTH"},
		{"HOME=/elsewhere", "the entry has its own HOME"},
		{"https_proxy=http://p/", "the entry has its own https_proxy"},
		{"NODE_OPTIONS=--use-openssl-ca", "the entry has its own NODE_OPTIONS"},
		{"CORP_TOKEN=x", "npm's configuration refers to CORP_TOKEN, which the entry has by itself"},
		{path("shims"), "shims/node is a script"},
		{path("manager"), "manager/node is a link to " + elsewhere + "/manager/tool"},
		{path("alone"), "there is no program " + elsewhere + "/alone/npm"},
		{path("another"), "PATH leads to " + elsewhere + "/another/node"},
		{"PATH=" + elsewhere, `command "npx": not found`},
		{"OTHER=x", ""},
	} {
		o := r.options("", "npx", "-y", "pkg@1.0.0")
		o.Env = append(append([]string{}, o.Env...), c.variable)
		u, err := r.resolver.Entry(o).Resolve(t.Context())
		if err == nil {
			u.Release()
		}
		var written *npx.AsWritten
		if (c.reason == "") != (err == nil) || err != nil && (!errors.As(err, &written) || !strings.Contains(written.Reason, c.reason)) {
			t.Errorf("%s: %v, want %s", c.variable, err, c.reason)
		}
	}
	theirs := filepath.Join(elsewhere, "theirs")
	if err := os.Chmod(theirs, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir, reason := range map[string]string{"": "the daemon has no cache directory", theirs: "theirs is no directory of this user's"} {
		resolver := npx.New(npx.Options{Dir: dir, Start: r.guard.Start})
		_, err := resolver.Entry(r.options("", "npx", "-y", "pkg@1.0.0")).Resolve(t.Context())
		var written *npx.AsWritten
		if !errors.As(err, &written) || !strings.Contains(written.Reason, reason) {
			t.Errorf("%q: %v, want %s", dir, err, reason)
		}
		resolver.Stop()
		resolver.Wait()
	}
}

// TestStopped: a stop ends npm, who waits is told, and nothing begins after it.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	r.say(t, "hold", "")
	e := r.entry("", "npx", "-y", "pkg@1.0.0")
	failed := make(chan error, 1)
	go func() {
		_, err := e.Resolve(t.Context())
		failed <- err
	}()
	within(t, "the install", func() bool { return r.asked("install") == 1 })
	r.resolver.Stop()
	if err := <-failed; err == nil {
		t.Error("resolved by an install that was ended")
	}
	r.resolver.Wait()
	if _, err := e.Resolve(t.Context()); !errors.Is(err, process.ErrClosed) {
		t.Errorf("after the stop: %v", err)
	}
	if folders := r.installs(t); len(folders) != 0 {
		t.Errorf("%q is left", folders)
	}
}

// TestExplain: what check says needs no install, and writes nothing.
func TestExplain(t *testing.T) {
	t.Parallel()
	r := newQuickRig(t)
	e := r.entry("", "npx", "-y", "pkg@^1", "x")
	wanted, version, err := e.Explain(t.Context())
	if err != nil || wanted != "pkg@^1" || version != "" || r.asked("install") != 0 {
		t.Errorf("%s, %s, %v; installed %d times", wanted, version, err, r.asked("install"))
	}
	if _, err := os.Stat(r.cache); err == nil {
		t.Error("something was written")
	}
	use(t, e).Release()
	if _, version, err := e.Explain(t.Context()); err != nil || version != "pkg@1.0.0" {
		t.Errorf("%s, %v", version, err)
	}
	writeFiles(t, r.home, map[string]string{".npmrc": "", "project/.npmrc": ""})
	_, _, err = r.entry(r.home+"/project", "npx", "-y", "pkg").Explain(t.Context())
	if written := new(npx.AsWritten); !errors.As(err, &written) || written.Reason != r.home+"/project/.npmrc may name another registry" {
		t.Errorf("in a project: %v", err)
	}
}
