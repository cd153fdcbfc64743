package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// conn is one connection, for one goroutine at a time. It goes to the driver without database/sql's pool: who uses a
// connection is fixed here, and half of a read's allocations are the pool's.
type conn struct {
	driver.Conn
	stmts map[string]driver.Stmt // prepared at their first use; their texts are a fixed set
}

// dial opens a connection and sets its pragmas.
func dial(path string, pragmas ...string) (*conn, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_error_rc": {"1"}, "_pragma": pragmas}.Encode()}
	connector, err := sqlite.NewConnector(name.String())
	if err != nil {
		return nil, err
	}
	c, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	return &conn{c, map[string]driver.Stmt{}}, nil
}

// script runs statements without arguments whose answers do not matter, without keeping them prepared.
func (c *conn) script(text string) error {
	_, err := c.Conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

func (c *conn) prepared(text string) (stmt driver.Stmt, err error) {
	stmt, ok := c.stmts[text]
	if !ok {
		if stmt, err = c.Prepare(text); err == nil {
			c.stmts[text] = stmt
		}
	}
	return stmt, err
}

// exec runs a statement; arguments are int64, string or []byte.
func (c *conn) exec(text string, args ...driver.Value) error {
	stmt, err := c.prepared(text)
	if err == nil {
		_, err = stmt.(driver.StmtExecContext).ExecContext(context.Background(), named(args))
	}
	return err
}

// transact does f in one transaction, or nothing of it.
func (c *conn) transact(f func() error) error {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil {
		_ = c.exec("ROLLBACK") // where SQLite has not done so itself
	}
	return err
}

// query calls row with each row of the answer. The row is used again for the next one, the bytes in it are not.
func (c *conn) query(text string, row func([]driver.Value), args ...driver.Value) error {
	stmt, err := c.prepared(text)
	if err != nil {
		return err
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.Background(), named(args))
	if err != nil {
		return err
	}
	values := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(values); err == nil; err = rows.Next(values) {
		row(values)
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// number returns the one integer that a statement answers.
func (c *conn) number(text string, args ...driver.Value) (n int64, err error) {
	err = c.query(text, func(row []driver.Value) { n, _ = row[0].(int64) }, args...)
	return n, err
}

func named(args []driver.Value) []driver.NamedValue {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return values
}

func (c *conn) close() error {
	var errs []error
	for _, stmt := range c.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, c.Close())...)
}
