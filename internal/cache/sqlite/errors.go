package sqlite

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// damage is what an error says of the file.
type damage int

const (
	none    damage = iota // the file is as good as before: the disk is full, or somebody holds a lock
	reopen                // the connections are of no more use: an I/O error
	corrupt               // the file is of no more use
)

// damageOf reads SQLite's result code. Our statements are few and fixed and were good when the file was opened, so a plain
// SQLITE_ERROR says that the tables under them have gone.
func damageOf(err error) damage {
	switch code := codeOf(err); code & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
		return corrupt
	case sqlite3.SQLITE_IOERR:
		if code == sqlite3.SQLITE_IOERR_SHORT_READ || code == sqlite3.SQLITE_IOERR_CORRUPTFS {
			return corrupt
		}
		return reopen
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_MISUSE:
		return reopen
	}
	return none
}

// codeOf is SQLite's extended result code in an error, SQLITE_OK where there is none.
func codeOf(err error) int {
	var coded *sqlite.Error
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return sqlite3.SQLITE_OK
}

// isFull reports whether there was no space: on the disk, or within the file's limit of pages.
func isFull(err error) bool { return codeOf(err)&0xff == sqlite3.SQLITE_FULL }

// isLocked reports whether somebody else has a lock on the file: no daemon, which would have the lock file.
func isLocked(err error) bool {
	code := codeOf(err) & 0xff
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}
