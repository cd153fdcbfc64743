package sqldb

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// What a file of ours says of itself.
const (
	sqliteApplication = 0x66706663 // PRAGMA application_id
	sqliteVersion     = 1          // PRAGMA user_version; another one is a foreign file
)

// The tables. An entry's rowid is the first half of its key's first half: keys are hashes, so two entries with one rowid
// are as good as impossible, and where it happens the later replaces the earlier. That saves the index that a key of 32
// bytes would need, and unlike in a WITHOUT ROWID table, large values do not make the tree deep.
var sqliteTables = []string{
	oneLine(`CREATE TABLE entries (
		id INTEGER PRIMARY KEY,
		key BLOB NOT NULL,
		expires INTEGER NOT NULL,
		value BLOB NOT NULL)`),
	`CREATE INDEX entries_expires ON entries (expires)`,
	oneLine(`CREATE TABLE tokens (
		generation BLOB PRIMARY KEY,
		token INTEGER NOT NULL,
		used INTEGER NOT NULL) WITHOUT ROWID`),
	`CREATE TABLE owner (prefix TEXT NOT NULL)`,
}

const sqliteReaders = 2

const sqlitePage = 4096

// lockFile takes the lock that says the file is this process's.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// fatalAtStart reports whether an error is the operator's to mend: all that concerns the path. A disk that is full or
// fails is none.
func fatalAtStart(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) {
		return !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EIO)
	}
	return errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errNotRegular)
}

var (
	errForeign    = errors.New("not a file of ours")
	errNotRegular = errors.New("not a regular file")
)

// open opens the file, or sets it aside and begins a new one where it is corrupt or not ours.
func (s *SQLite) open() (*sqliteFile, error) {
	f, err := s.openOnce()
	if err == nil {
		return f, nil
	}
	switch {
	case errors.Is(err, errForeign):
		err = s.setAside(".foreign", err)
	case judge(err) == corrupt:
		err = s.setAside(".corrupt", err)
	case isLocked(err):
		return nil, fmt.Errorf("%s: %w: %w", s.opt.Path, ErrInUse, err)
	default:
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return s.openOnce()
}

// setAside renames the file and its -wal, over those that were set aside before.
func (s *SQLite) setAside(suffix string, why error) error {
	s.opt.Log.Warn("the cache's file is set aside and a new one begun", "path", s.opt.Path, "as", s.opt.Path+suffix, "error", why)
	var errs []error
	for _, part := range []string{"", "-wal"} {
		_ = os.Remove(s.opt.Path + suffix + part) // if it stays, the rename says so, or replaces it
		if err := os.Rename(s.opt.Path+part, s.opt.Path+suffix+part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := os.Remove(s.opt.Path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// openOnce opens the file as it is.
func (s *SQLite) openOnce() (f *sqliteFile, err error) {
	if err := ownFile(s.opt.Path); err != nil {
		return nil, err
	}
	// synchronous=OFF: the file is safe against the end of this process, not of the machine. After that the daemon's end
	// was unclean, and BumpAll makes all entries unreadable anyhow. A clean end writes it out (see close).
	writer, err := openConn(s.opt.Path, fmt.Sprintf("busy_timeout=%d", s.opt.Timeout.Milliseconds()), "synchronous=OFF",
		"trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY")
	if err != nil {
		return nil, err
	}
	conns := []*sqliteConn{writer}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(conns))
		}
	}()
	if err := s.begin(writer); err != nil {
		return nil, err
	}
	tokens, err := loadTokens(writer)
	if err != nil {
		return nil, err
	}
	rows, err := loadIndex(writer)
	if err != nil {
		return nil, err
	}
	for range sqliteReaders {
		reader, err := openConn(s.opt.Path, fmt.Sprintf("busy_timeout=%d", s.opt.Timeout.Milliseconds()),
			"trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "cache_size=-4096")
		if err != nil {
			return nil, err
		}
		conns = append(conns, reader)
	}
	return s.newFile(conns, tokens, rows), nil
}

func closeAll(conns []*sqliteConn) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// ownFile sees to it that the file is there and nobody else's to read. The -wal and the -shm get its mode from SQLite.
func ownFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", path, errNotRegular)
	}
	for _, part := range []string{"-wal", "-shm"} {
		if err := os.Chmod(path+part, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.Chmod(0o600)
}

// begin makes the tables in a new file and checks those of an old one, before it changes anything in it.
func (s *SQLite) begin(c *sqliteConn) error {
	application, err := c.number("PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := c.number("PRAGMA user_version")
	if err != nil {
		return err
	}
	var tables []string
	err = c.query(`SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid`, func(row []driver.Value) error {
		text, _ := row[0].(string)
		tables = append(tables, text)
		return nil
	})
	if err != nil {
		return err
	}
	fresh := application == 0 && version == 0 && len(tables) == 0
	if !fresh && (application != sqliteApplication || version != sqliteVersion || !equal(tables, sqliteTables)) {
		return errForeign
	}
	return s.configure(c, fresh)
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if oneLine(a[i]) != oneLine(b[i]) {
			return false
		}
	}
	return true
}

func (s *SQLite) configure(c *sqliteConn, fresh bool) error {
	if fresh {
		if err := c.pragma(fmt.Sprintf("page_size=%d", sqlitePage)); err != nil {
			return err
		}
	}
	var mode string
	err := c.query("PRAGMA journal_mode=WAL", func(row []driver.Value) error {
		mode, _ = row[0].(string) // anything else is no mode that we asked for
		return nil
	})
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the journal mode is %q and not WAL", mode)
	}
	for _, pragma := range []string{
		fmt.Sprintf("wal_autocheckpoint=%d", s.walBytes()/4/sqlitePage), fmt.Sprintf("journal_size_limit=%d", s.walBytes()),
		fmt.Sprintf("max_page_count=%d", s.maxPages()), "cache_size=-8192",
	} {
		if err := c.pragma(pragma); err != nil {
			return err
		}
	}
	if fresh {
		if err := createTables(c); err != nil {
			return err
		}
	}
	return s.own(c)
}

// own sees to it that the tokens in the file are of this prefix. Entries that were written under another one have none
// then: they are as good as gone, and go in time.
func (s *SQLite) own(c *sqliteConn) error {
	owners, ours := 0, false
	err := c.query("SELECT prefix FROM owner LIMIT 2", func(row []driver.Value) error {
		owners++
		ours = row[0] == s.opt.Prefix
		return nil
	})
	if err != nil || owners == 1 && ours {
		return err
	}
	return c.transact(func() error {
		for _, text := range []string{"DELETE FROM tokens", "DELETE FROM owner"} {
			if _, err := c.exec(text); err != nil {
				return err
			}
		}
		_, err := c.exec("INSERT INTO owner (prefix) VALUES (CAST(? AS TEXT))", []byte(s.opt.Prefix))
		return err
	})
}

func createTables(c *sqliteConn) error {
	return c.transact(func() error {
		for _, table := range sqliteTables {
			if _, err := c.exec(table); err != nil {
				return err
			}
		}
		for _, pragma := range []string{fmt.Sprintf("application_id=%d", sqliteApplication), fmt.Sprintf("user_version=%d", sqliteVersion)} {
			if err := c.pragma(pragma); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxStoredTokens is how many tokens of a file are taken over; entries under others are misses.
const maxStoredTokens = 1 << 20

// loadTokens reads the tokens that entries were written under.
func loadTokens(c *sqliteConn) (*tokenTable, error) {
	t := newTokenTable()
	err := c.query("SELECT generation, token, used FROM tokens WHERE used > ? LIMIT ?", func(row []driver.Value) error {
		generation, _ := row[0].([]byte)
		token, _ := row[1].(int64)
		used, _ := row[2].(int64)
		if len(generation) == len(tier.Generation{}) && token != 0 && used > 0 {
			t.tokens[tier.Generation(generation)] = tokenState{token: tier.Token(token), used: used}
		}
		return nil
	}, time.Now().Add(-tokenLife).Unix(), int64(maxStoredTokens))
	return t, err
}
