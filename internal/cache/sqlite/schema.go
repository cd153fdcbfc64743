package sqlite

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// schema is what makes a file ours, and what currentSchema answers of it: the name of the application, the version of the
// tables (a file of another version is not ours), and the tables.
//
// An entry's rowid is the first eight bytes of its key: keys are hashes, so two entries with one rowid are as good as
// impossible, and where it happens the later replaces the earlier. That saves the index that a key of 32 bytes would need,
// and unlike in a WITHOUT ROWID table, large values do not make the tree deep.
var schema = []string{
	"PRAGMA application_id=1718642275",
	"PRAGMA user_version=1",
	"CREATE TABLE entries ( id INTEGER PRIMARY KEY, key BLOB NOT NULL, expires INTEGER NOT NULL, value BLOB NOT NULL)",
	"CREATE INDEX entries_expires ON entries (expires)",
	"CREATE TABLE tokens ( generation BLOB PRIMARY KEY, token INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
	"CREATE TABLE owner (prefix TEXT NOT NULL)",
}

const currentSchema = `SELECT 'PRAGMA application_id=' || application_id FROM pragma_application_id
	UNION ALL SELECT 'PRAGMA user_version=' || user_version FROM pragma_user_version
	UNION ALL SELECT sql FROM (SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid)`

// freshSchema is what currentSchema answers of an empty file.
var freshSchema = []string{"PRAGMA application_id=0", "PRAGMA user_version=0"}

const pageSize = 4096 // bytes

// pragmas are what each connection needs: the one that writes, and those that read. None of them changes a file that is not
// empty.
//
// synchronous=OFF: the file is safe against the end of this process, not of the machine. After that the daemon's end was
// unclean, and BumpAll makes all entries unreadable anyhow. A clean end writes it out: see writer.end.
func (t *adapter) pragmas() [][]string {
	common := []string{fmt.Sprintf("busy_timeout=%d", t.opt.Timeout.Milliseconds()), "trusted_schema=OFF", "cell_size_check=ON"}
	all := [][]string{append([]string{
		fmt.Sprintf("page_size=%d", pageSize), "synchronous=OFF", "temp_store=MEMORY", "cache_size=-8192",
		fmt.Sprintf("wal_autocheckpoint=%d", t.walBytes()/4/pageSize), fmt.Sprintf("journal_size_limit=%d", t.walBytes()),
		fmt.Sprintf("max_page_count=%d", t.maxPages()),
	}, common...)}
	for range readers {
		all = append(all, append([]string{"query_only=ON", "cache_size=-4096"}, common...))
	}
	return all
}

// load makes the tables in a new file and checks those of an old one, before it changes anything in it, then reads what the
// file has.
func (t *adapter) load(c *conn) (*contents, error) {
	var found []string
	err := c.query(currentSchema, func(row []driver.Value) {
		text, _ := row[0].(string)
		found = append(found, text)
	})
	fresh := slices.Equal(found, freshSchema)
	if err == nil && !fresh && !slices.Equal(found, schema) {
		err = errNotOurs
	}
	if err == nil {
		err = useWAL(c)
	}
	if err == nil && fresh {
		err = c.script("BEGIN IMMEDIATE; " + strings.Join(schema, "; ") + "; COMMIT")
	}
	if err == nil {
		err = own(c, t.opt.Prefix)
	}
	if err != nil {
		return nil, err
	}
	return loadContents(c)
}

func useWAL(c *conn) error {
	var mode string
	err := c.query("PRAGMA journal_mode=WAL", func(row []driver.Value) {
		mode, _ = row[0].(string) // anything else is no mode that we asked for
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("the journal mode is %q and not WAL", mode)
	}
	return err
}

// own sees to it that the tokens in the file are of this prefix. Entries that were written under another one have none
// then: they are as good as gone, and go in time.
func own(c *conn, prefix string) error {
	ours, err := c.number("SELECT count(*) = 1 AND max(prefix) = ? FROM owner", prefix)
	if err != nil || ours == 1 {
		return err
	}
	return c.transact(func() error {
		err := c.exec("DELETE FROM tokens")
		if err == nil {
			err = c.exec("DELETE FROM owner")
		}
		if err == nil {
			err = c.exec("INSERT INTO owner (prefix) VALUES (?)", prefix)
		}
		return err
	})
}

// maxStoredTokens is how many tokens of a file are taken over; entries under others are misses.
const maxStoredTokens = 1 << 20

// loadContents reads the ids of all entries, and the tokens under which they were written.
func loadContents(c *conn) (*contents, error) {
	loaded := newContents()
	err := c.query("SELECT id FROM entries", func(row []driver.Value) {
		id, _ := row[0].(int64)
		loaded.rows[id] = struct{}{}
	})
	if err != nil {
		return nil, err
	}
	err = c.query("SELECT generation, token, used FROM tokens WHERE used > ? LIMIT ?", func(row []driver.Value) {
		generation, _ := row[0].([]byte)
		token, _ := row[1].(int64)
		used, _ := row[2].(int64)
		if len(generation) == len(tier.Generation{}) && token != 0 && used > 0 {
			loaded.tokens[tier.Generation(generation)] = tokenState{token: tier.Token(token), used: used}
		}
	}, time.Now().Add(-tokenLife).Unix(), int64(maxStoredTokens))
	return loaded, err
}
