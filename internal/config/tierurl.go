package config

import (
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/cache/redis"
)

// The URLs of tiers hold passwords, and a slip can bring one to any place in them: no fault here shows a part of one, and
// what url.Parse and the drivers say is not passed on.

const (
	wantedRedis      = "must be redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path"
	wantedDatabase   = "must be sqlite:PATH, postgres://user:password@host:5432/database, or off"
	wantedParameters = "must have parameters as name=value, with & between them"
	wantedSigns      = "has an @ in a wrong place; write @ / ? # of a user or a password as %40 %2F %3F %23"
)

// redisURL takes a URL that the Redis adapter takes, or nothing.
func redisURL(value, written string, into *Secret) (why string) {
	if value == "" {
		return ""
	}
	u, why := parseRedis(value)
	if why == "" {
		*into = Secret{value, shownURL(written, u)}
	}
	return why
}

// parseRedis returns a URL that the Redis adapter takes, or what is wrong.
func parseRedis(s string) (*url.URL, string) {
	u, why := parseTierURL(s, wantedRedis)
	if why != "" {
		return nil, why
	}
	socket := u.Scheme == "unix"
	switch {
	case !socket && u.Scheme != "redis" && u.Scheme != "rediss":
		return nil, wantedRedis
	case socket && (u.Host != "" || u.Path == "" || u.Path == "/"):
		return nil, "must have three slashes and a path: unix:///path"
	case !socket && !isHost(u.Hostname()):
		return nil, "must have one host"
	case !socket && strings.Trim(u.Path, "/") != "" && !isNumberOfDatabase(strings.Trim(u.Path, "/")):
		return nil, "must have the number of a database behind the host, such as /0"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, wantedParameters
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch values := query[name]; {
		case name == "db" && slices.ContainsFunc(values, func(v string) bool { return !isNumberOfDatabase(v) }):
			return nil, "must have the number of a database for db, such as db=0"
		case name != "db" && (name != "skip_verify" || u.Scheme != "rediss"):
			return nil, "takes no parameter but db, and skip_verify with rediss"
		}
	}
	if (redis.Options{URL: s}).Validate() != nil {
		return nil, wantedRedis
	}
	return u, ""
}

func isNumberOfDatabase(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// databaseURL says what a Database is: a file, a server, or none.
func databaseURL(value, written string, into *Database) (why string) {
	switch file, sqlite := strings.CutPrefix(value, sqliteScheme); {
	case value == string(DatabaseOff):
		into.Kind = DatabaseOff
		return ""
	case sqlite:
		return into.sqlite(file, written)
	case strings.HasPrefix(value, "postgres://") || strings.HasPrefix(value, "postgresql://"):
		return into.postgres(value, written)
	}
	return wantedDatabase
}

// warnPooler says what a pooler does not carry where there probably is one: nothing else needs execMode.
func (c check) warnPooler(db *Database) {
	if strings.Contains(db.URL.Value, execMode+"=") {
		c.d.warn(c.at(), "a pooler in transaction mode carries no notifications, by which daemons tell each other of changes: "+
			"let it pool by session, or name the server itself")
	}
}

// String says where the database is, without user, password and query, or "off".
func (db Database) String() string {
	switch db.Kind {
	case DatabaseSQLite:
		return db.Path.String()
	case DatabasePostgres:
		return db.URL.String()
	}
	return string(db.Kind)
}

// settle takes from a kind what it does not have. Beside Redis there is no embedded file: of what other daemons change, a
// file of this one's own would know nothing.
func (db *Database) settle(besideRedis bool) {
	if besideRedis && db.Kind == DatabaseSQLite {
		db.Kind = DatabaseOff
	}
	switch db.Kind {
	case DatabaseSQLite:
		db.PoolMax, db.PoolLifetime = 0, 0
	case DatabasePostgres:
		db.Size = 0
	case DatabaseOff:
		*db = Database{Kind: DatabaseOff}
	}
}

const sqliteScheme = "sqlite:"

// sqlitePath is the path of a file, shown as its URL.
func sqlitePath(path string) Secret { return Secret{path, sqliteScheme + path} }

// sqlite takes a path or returns what is wrong. text is how it is written.
func (db *Database) sqlite(path, text string) (why string) {
	clean := filepath.Clean(path)
	switch {
	case path == "" || strings.HasSuffix(path, "/") || clean == "." || clean == "/":
		return "must name a file, as sqlite:cache.db does"
	case strings.HasPrefix(path, "//"):
		return "must have no // behind sqlite: an absolute path begins with one slash"
	case strings.HasPrefix(path, ":") || strings.ContainsFunc(path, isControl):
		return "must name a file that can be: no : at its beginning, no control characters"
	case !filepath.IsAbs(clean) && !filepath.IsLocal(clean):
		return "must stay in the state directory; write an absolute path for a file elsewhere"
	}
	db.Kind, db.Path, db.URL = DatabaseSQLite, sqlitePath(clean), Secret{}
	if strings.Contains(text, "${") {
		db.Path.shown = text
	}
	return ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7F }

// postgres takes a URL or returns what is wrong. text is how it is written.
func (db *Database) postgres(s, text string) (why string) {
	u, why := parseTierURL(s, wantedDatabase)
	if why != "" {
		return why
	}
	parameters, why := postgresParameters(u.RawQuery)
	if why != "" {
		return why
	}
	host, name := parameters["host"], strings.TrimPrefix(u.Path, "/")
	for _, key := range []string{"dbname", "database"} {
		if v, ok := parameters[key]; ok {
			name = v
		}
	}
	switch {
	case u.Host == "" && host == "":
		return "must have a host, or a host= with the directory of a socket"
	case u.Host != "" && !isHost(u.Hostname()):
		return "must have one host"
	case name == "" || len(name) > 63 || strings.Contains(name, "/") || strings.ContainsFunc(name, isControl):
		return "must name a database behind the host, at most 63 bytes: postgres://host/database"
	}
	db.Kind, db.Path, db.URL = DatabasePostgres, Secret{}, Secret{s, shownURL(text, u)}
	return ""
}

// postgresParameters returns the parameters of a URL, or what is wrong with them. Those that the server knows and the
// driver does not are left to the server.
func postgresParameters(query string) (parameters map[string]string, why string) {
	parameters = map[string]string{}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, ok := strings.Cut(pair, "=")
		name, errName := url.PathUnescape(name)
		value, errValue := url.PathUnescape(value)
		if !ok || errName != nil || errValue != nil || name == "" || strings.ContainsAny(value, "=\x00") {
			return nil, wantedParameters
		}
		switch {
		case strings.HasPrefix(name, "pool_"):
			return nil, "takes no pool_ parameters: " + databasePoolKey + " says it"
		case name == "connect_timeout":
			return nil, "takes no connect_timeout: " + databaseTimeoutKey + " says it"
		case slices.Contains(statementParameters, name):
			return nil, "takes no " + name + ": behind a pooler such as PgBouncer write default_query_exec_mode=exec"
		case name == execMode && !slices.Contains(execModes, value):
			return nil, "must have a " + execMode + " of " + strings.Join(execModes, ", ") + "; exec is what a pooler needs"
		case name == "sslmode" && !slices.Contains(sslModes, value):
			return nil, "must have an sslmode of " + strings.Join(sslModes, ", ")
		}
		parameters[name] = value
	}
	return parameters, ""
}

const execMode = "default_query_exec_mode" // of pgx: how statements are sent, and whether they are prepared

// execModes are the values of execMode.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// statementParameters are others by which people keep drivers from preparing statements. The first two are of pgx, where a
// capacity of 0 fails every query unless the mode is another one too; the rest are of its older versions and of other
// drivers, and fail every connection: the server does not know them.
var statementParameters = []string{
	"statement_cache_capacity", "description_cache_capacity", "statement_cache_mode", "prefer_simple_protocol",
	"binary_parameters", "pgbouncer", "prepareThreshold",
}

// sslModes are the values of sslmode (PostgreSQL, libpq-ssl).
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// parseTierURL parses a URL with an authority. First of all it refuses what some parsers take for the host and others for
// a part of the password.
func parseTierURL(s, wanted string) (*url.URL, string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme == "" {
		return nil, wanted
	}
	if authority, _, _ := strings.Cut(rest, "@"); strings.Count(rest, "@") > 1 || authority != rest && strings.ContainsAny(authority, "/?#") {
		return nil, wantedSigns
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "":
		return nil, wanted
	case strings.Contains(s, "#"):
		return nil, "must not have a fragment (#)"
	case u.Port() != "" && !isPort(u.Port()):
		return nil, "must have a port from 1 to 65535"
	}
	return u, ""
}

// shownURL returns a tier's URL as it is written, without user, password and query. u is what it stands for. Where
// variables hide what is what, nothing is shown of it.
func shownURL(text string, u *url.URL) string {
	plain := forms.ReplaceAllStringFunc(text, func(form string) string { return strings.Repeat(formMask, len(form)) }) // offsets stay
	if plain != "" && strings.Trim(plain, formMask) == "" {
		return text // variables and nothing else
	}
	start, at, query := strings.Index(plain, "://"), strings.LastIndexByte(plain, '@'), strings.IndexByte(plain, '?')
	if start < 0 || (at >= 0) != (u.User != nil) || (query >= 0) != (u.RawQuery != "") {
		return "set"
	}
	start += len("://")
	return withoutQuery(text[:start] + text[max(start, at+1):])
}

const formMask = "\x00" // stands for the bytes of a `${...}`, and is in no URL
