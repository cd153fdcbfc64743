// A damaged database file is set aside, and agents see nothing of it.

package cache

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestSQLiteFailsAlone damages the file of the embedded database under load. What the daemon cannot read it sets aside,
// and begins a new file.
func TestSQLiteFailsAlone(t *testing.T) {
	for _, f := range []struct {
		name   string
		suffix string // of the file that is damaged
		damage func(f *os.File, size int64) error
	}{
		{"truncated", "", func(f *os.File, size int64) error { return f.Truncate(size / 2) }},
		{"truncated to nothing", "", func(f *os.File, _ int64) error { return f.Truncate(0) }},
		{"overwritten", "", overwrite},
		{"log truncated", "-wal", func(f *os.File, _ int64) error { return f.Truncate(0) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
			at, c := harness.NewFolders(t), harness.Tiering{Database: sqliteFile}
			fill(t, c, m, at)
			d := c.Run(t, m.URL, at)
			load := startLoad(t, d)
			load.awaitMore(20)
			awaitWritten(d, "database", 5)
			file := filepath.Join(at.State, "cache.db")
			before := d.Scrape()
			change(t, file+f.suffix, f.damage)
			seen := harness.Within(t, 0, "the damage is seen", func() bool { return exists(file + ".corrupt") })
			after := d.Scrape()
			back := harness.Within(t, 5*time.Second, "in use again", func() bool { return usedSince(d, after) })
			grown := d.Scrape().Minus(before)
			load.end()
			t.Logf("seen after %v, in use again %v later; %d reads failed, %d entries not written, slowest answer %v", seen.Round(time.Millisecond),
				back.Round(time.Millisecond), grown.Asked("database", "error"), writtenTo(grown, "database", "failed"), load.lap().Round(time.Millisecond))
			keepsOver(t, c, m, at, d)
		})
	}
}

// fill has a daemon write a few hundred entries and end, so that all of them are in the file itself.
func fill(t *testing.T, c harness.Tiering, m *harness.ModernServer, at harness.Folders) {
	t.Helper()
	d := c.Run(t, m.URL, at)
	load := startLoad(t, d)
	load.awaitMore(400)
	load.end()
	awaitWritten(d, "database", 200)
	d.Stop(t, syscall.SIGTERM)
}

// keepsOver stops the daemon and holds the next one in its folders to what it kept.
func keepsOver(t *testing.T, c harness.Tiering, m *harness.ModernServer, at harness.Folders, d *harness.Daemon) {
	t.Helper()
	const params = `"uri":"item://kept"`
	kept := d.Agent(t).Ask("/mcp/s", "resources/read", params, harness.Bearer("ada"))
	d.Stop(t, syscall.SIGTERM)
	if got := c.Run(t, m.URL, at).Agent(t).Ask("/mcp/s", "resources/read", params, harness.Bearer("ada")); servedBy(got) != "database" || got.Serial != kept.Serial {
		t.Errorf("after a restart: answer %d from %q, want %d from the database", got.Serial, servedBy(got), kept.Serial)
	}
}

// usedSince reports whether the database has answered and been written to since a scrape.
func usedSince(d *harness.Daemon, earlier harness.Metrics) bool {
	now := d.Scrape().Minus(earlier)
	return now.Asked("database", "hit", "miss") > 0 && writtenTo(now, "database", "written") > 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// change opens a file as any other program might.
func change(t *testing.T, path string, how func(f *os.File, size int64) error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = how(f, info.Size())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// overwrite puts something else in the place of all that is there.
func overwrite(f *os.File, size int64) error {
	rubbish := make([]byte, size)
	for i := range rubbish {
		rubbish[i] = "not a database "[i%15]
	}
	_, err := f.WriteAt(rubbish, 0)
	return err
}
