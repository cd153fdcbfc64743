package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteConn is one connection, for one goroutine at a time. It goes to the driver without database/sql's pool: who uses
// a connection is fixed here, and half of a read's allocations are the pool's.
type sqliteConn struct {
	conn  driver.Conn
	stmts map[string]driver.Stmt // prepared at their first use; their texts are a fixed set
}

func openConn(path string, pragmas ...string) (*sqliteConn, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: "_error_rc=1"}
	connector, err := sqlite.NewConnector(name.String())
	if err != nil {
		return nil, err
	}
	conn, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	c := &sqliteConn{conn: conn, stmts: map[string]driver.Stmt{}}
	for _, pragma := range pragmas {
		if err := c.pragma(pragma); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// pragma runs a PRAGMA whose answer does not matter, without keeping it prepared.
func (c *sqliteConn) pragma(text string) error {
	stmt, err := c.conn.Prepare("PRAGMA " + text)
	if err != nil {
		return fmt.Errorf("PRAGMA %s: %w", text, err)
	}
	defer stmt.Close()
	if _, err = stmt.(driver.StmtExecContext).ExecContext(context.Background(), nil); err != nil {
		return fmt.Errorf("PRAGMA %s: %w", text, err)
	}
	return nil
}

func (c *sqliteConn) prepared(text string) (driver.Stmt, error) {
	if stmt, ok := c.stmts[text]; ok {
		return stmt, nil
	}
	stmt, err := c.conn.Prepare(text)
	if err == nil {
		c.stmts[text] = stmt
	}
	return stmt, err
}

// exec runs a statement; arguments are int64 or []byte.
func (c *sqliteConn) exec(text string, args ...driver.Value) (changed int64, err error) {
	stmt, err := c.prepared(text)
	if err != nil {
		return 0, err
	}
	result, err := stmt.(driver.StmtExecContext).ExecContext(context.Background(), named(args))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// transact does f in one transaction, or nothing of it.
func (c *sqliteConn) transact(f func() error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = c.exec("COMMIT")
	}
	if err != nil {
		_, _ = c.exec("ROLLBACK") // where SQLite has not done so itself
	}
	return err
}

// query calls row with each row of the answer. The row is used again for the next one, the bytes in it are not.
func (c *sqliteConn) query(text string, row func([]driver.Value) error, args ...driver.Value) (err error) {
	stmt, err := c.prepared(text)
	if err != nil {
		return err
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.Background(), named(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := row(values); err != nil {
			return err
		}
	}
}

// number returns the one integer that a statement answers.
func (c *sqliteConn) number(text string) (n int64, err error) {
	err = c.query(text, func(row []driver.Value) error {
		n, _ = row[0].(int64)
		return nil
	})
	return n, err
}

func named(args []driver.Value) []driver.NamedValue {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return values
}

func (c *sqliteConn) close() error {
	var errs []error
	for _, stmt := range c.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, c.conn.Close())...)
}

// verdict is what an error says of the file.
type verdict int

const (
	fine    verdict = iota // the file is as good as before: the disk is full, or somebody holds a lock
	reopen                 // the connections are of no more use: an I/O error
	corrupt                // the file is of no more use
)

// judge reads SQLite's result code. Our statements are few and fixed and were good when the file was opened, so a plain
// SQLITE_ERROR says that the tables under them have gone.
func judge(err error) verdict {
	var coded *sqlite.Error
	if !errors.As(err, &coded) {
		return fine
	}
	switch coded.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
		return corrupt
	case sqlite3.SQLITE_IOERR:
		if code := coded.Code(); code == sqlite3.SQLITE_IOERR_SHORT_READ || code == sqlite3.SQLITE_IOERR_CORRUPTFS {
			return corrupt
		}
		return reopen
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_MISUSE:
		return reopen
	}
	return fine
}

func isCode(err error, codes ...int) bool {
	var coded *sqlite.Error
	if !errors.As(err, &coded) {
		return false
	}
	for _, code := range codes {
		if coded.Code()&0xff == code {
			return true
		}
	}
	return false
}

// isFull reports whether there was no room: on the disk, or within the file's limit of pages.
func isFull(err error) bool { return isCode(err, sqlite3.SQLITE_FULL) }

// isLocked reports whether somebody else has a lock on the file: no daemon, which would have the lock file.
func isLocked(err error) bool { return isCode(err, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) }

// oneLine makes SQL that is written over several lines compare equal however it is indented.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
