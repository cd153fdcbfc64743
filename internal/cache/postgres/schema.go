package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// migrationLock is the advisory lock under which the tables are made: daemons that start at once do it one after the other.
const migrationLock = 0x666c7065_72660001

// migrations make the tables; what stands at index i leads from version i to i+1. Each may run again over its own
// result. There is only one way: forward. A table made by a newer version is neither changed nor used.
//
// Values are large, and compressed by us where that helps: EXTERNAL keeps Postgres from trying as well. Dead rows are
// most of what a cache makes, so vacuum comes sooner than by default.
var migrations = []string{
	`CREATE UNLOGGED TABLE IF NOT EXISTS fluentd_perf_entries (
		key bytea PRIMARY KEY,
		expires bigint NOT NULL,
		value bytea NOT NULL
	) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_scale_factor = 0.05);
	ALTER TABLE fluentd_perf_entries ALTER COLUMN value SET STORAGE EXTERNAL;
	CREATE INDEX IF NOT EXISTS fluentd_perf_entries_expires ON fluentd_perf_entries (expires);
	CREATE UNLOGGED TABLE IF NOT EXISTS fluentd_perf_tokens (
		generation bytea PRIMARY KEY,
		token bigint NOT NULL,
		used bigint NOT NULL
	) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, fillfactor = 70);`,
}

var errNewer = errors.New("the tables were made by a newer version")

// migrate sees to it that the tables are there and of this version. Where they are, it changes nothing, so that a user
// who may not make tables can use those that somebody else made.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	version, err := schemaVersion(ctx, conn)
	if err != nil || version == len(migrations) {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%w (version %d, this one knows %d)", errNewer, version, len(migrations))
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrateLocked(ctx, tx) })
}

func migrateLocked(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx) // somebody may have been here before
	if err != nil || version >= len(migrations) {
		return err
	}
	for _, migration := range migrations[version:] {
		if _, err := tx.Exec(ctx, migration, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS fluentd_perf_schema (version int NOT NULL);
		DELETE FROM fluentd_perf_schema;
		INSERT INTO fluentd_perf_schema VALUES (%d)`, len(migrations)), pgx.QueryExecModeSimpleProtocol)
	return err
}

// schemaVersion returns the version of the tables, 0 where one of them is missing.
func schemaVersion(ctx context.Context, db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (version int, err error) {
	var there bool
	err = db.QueryRow(ctx, `SELECT to_regclass('fluentd_perf_schema') IS NOT NULL AND to_regclass('fluentd_perf_entries') IS NOT NULL
		AND to_regclass('fluentd_perf_tokens') IS NOT NULL`).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	err = db.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM fluentd_perf_schema").Scan(&version)
	return version, err
}

// tablesGone reports whether the server says that a table or a column is not there.
func tablesGone(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "42703" || refused.Code == "3F000")
}
