package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
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
			m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
			at, c := newPlaces(t), tiering{database: sqliteFile}
			fill(t, c, m, at)
			d := c.run(t, m.url, at)
			crowd := startCrowd(t, d)
			crowd.awaitMore(20)
			d.awaitWritten("database", 5)
			file := filepath.Join(at.state, "cache.db")
			before := d.scrape()
			change(t, file+f.suffix, f.damage)
			seen := within(t, 0, "the damage is seen", func() bool { return exists(file + ".corrupt") })
			after := d.scrape()
			back := within(t, 5*time.Second, "in use again", func() bool { return usedSince(d, after) })
			grown := d.scrape().minus(before)
			crowd.end()
			t.Logf("seen after %v, in use again %v later; %d reads failed, %d entries not written, slowest answer %v", seen.Round(time.Millisecond),
				back.Round(time.Millisecond), grown.asked("database", "error"), grown.written("database", "failed"), crowd.lap().Round(time.Millisecond))
			keepsOver(t, c, m, at, d)
		})
	}
}

// fill has a daemon write a few hundred entries and end, so that all of them are in the file itself.
func fill(t *testing.T, c tiering, m *modernServer, at places) {
	t.Helper()
	d := c.run(t, m.url, at)
	crowd := startCrowd(t, d)
	crowd.awaitMore(400)
	crowd.end()
	d.awaitWritten("database", 200)
	d.stop(t, syscall.SIGTERM)
}

// keepsOver stops the daemon and holds the next one in its places to what it kept.
func keepsOver(t *testing.T, c tiering, m *modernServer, at places, d *sidecar) {
	t.Helper()
	const params = `"uri":"item://kept"`
	kept := d.agent(t).ask("/mcp/s", "resources/read", params, as("ada"))
	d.stop(t, syscall.SIGTERM)
	if got := c.run(t, m.url, at).agent(t).ask("/mcp/s", "resources/read", params, as("ada")); got.tier() != "database" || got.serial != kept.serial {
		t.Errorf("after a restart: answer %d from %q, want %d from the database", got.serial, got.tier(), kept.serial)
	}
}

// usedSince reports whether the database has answered and been written to since a scrape.
func usedSince(d *sidecar, earlier metrics) bool {
	now := d.scrape().minus(earlier)
	return now.asked("database", "hit", "miss") > 0 && now.written("database", "written") > 0
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
