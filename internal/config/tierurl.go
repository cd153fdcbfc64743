package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"fluentd-perf/internal/cache/redis"
)

// The URLs of tiers hold passwords, and a slip can bring one to any place in them: no fault here shows a part of one, and
// what url.Parse and the drivers say is not passed on.

const (
	wantedRedis      = "must be redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path; of parameters there are db, and skip_verify with rediss"
	wantedDatabase   = "must be sqlite:PATH, postgres://user:password@host:5432/database, or off"
	wantedParameters = "must have parameters as name=value, with & between them"
)

// redisURL takes a URL that the Redis adapter takes, or nothing.
func redisURL(value, written string, into *Secret) (why string) {
	if value == "" {
		return ""
	}
	u, why := parseTierURL(value, wantedRedis, "redis", "rediss", "unix")
	if why == "" && (u.Scheme != "unix" && !isHost(u.Hostname()) || (redis.Options{URL: value}).Validate() != nil) {
		why = wantedRedis
	}
	if why == "" {
		*into = Secret{value, shownURL(written, u)}
	}
	return why
}

// databaseURL says what a Database is: a file, a server, or none.
func databaseURL(value, written string, into *Database) (why string) {
	scheme, file, _ := strings.Cut(value, ":")
	switch {
	case value == string(DatabaseOff):
		into.Kind = DatabaseOff
		return ""
	case scheme == "sqlite":
		return into.sqlite(file, written)
	case scheme == "postgres" || scheme == "postgresql":
		return into.postgres(value, written)
	}
	return wantedDatabase
}

// warnPooler says what a pooler does not carry where there probably is one: nothing else needs execMode.
func (c check) warnPooler(db *Database) {
	if strings.Contains(db.URL.Value, execMode+"=") {
		c.warn("a pooler in transaction mode carries no notifications, by which daemons tell each other of changes: " +
			"let it pool by session, or name the server itself")
	}
}

// String says where the database is, without user, password and query, or "off".
func (db Database) String() string { return cmp.Or(db.Path.shown, db.URL.shown, string(db.Kind)) }

// dropInapplicable takes from a kind what it does not have. Beside Redis there is no embedded file: of what other daemons change, a
// file of this one's own would know nothing.
func (db *Database) dropInapplicable(besideRedis bool) {
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

// sqlitePath is the path of a file, shown as its URL.
func sqlitePath(path string) Secret { return Secret{path, "sqlite:" + path} }

// sqlite takes a path or returns what is wrong. text is how it is written.
func (db *Database) sqlite(path, text string) (why string) {
	clean := filepath.Clean(path)
	switch {
	case path == "" || strings.HasSuffix(path, "/") || clean == "." || strings.HasPrefix(path, ":") || strings.ContainsFunc(path, isControl):
		return "must name a file, as sqlite:cache.db does"
	case strings.HasPrefix(path, "//"):
		return "must have no // behind sqlite: an absolute path begins with one slash"
	case !filepath.IsAbs(clean) && !filepath.IsLocal(clean):
		return "must stay in the state directory; write an absolute path for a file elsewhere"
	}
	db.Kind, db.Path, db.URL = DatabaseSQLite, sqlitePath(clean), Secret{}
	if strings.Contains(text, "${") {
		db.Path.shown = text
	}
	return ""
}

// postgres takes a URL or returns what is wrong. text is how it is written.
func (db *Database) postgres(s, text string) (why string) {
	u, why := parseTierURL(s, wantedDatabase, "postgres", "postgresql")
	if why != "" {
		return why
	}
	parameters := u.Query()
	name := strings.TrimPrefix(u.Path, "/")
	for _, key := range []string{"dbname", "database"} { // a parameter wins
		name = append(parameters[key], name)[0]
	}
	switch {
	case u.Host == "" && parameters.Get("host") == "":
		return "must have a host, or a host= with the directory of a socket"
	case u.Host != "" && !isHost(u.Hostname()):
		return "must have one host"
	case name == "" || len(name) > 63 || strings.Contains(name, "/") || strings.ContainsFunc(name, isControl):
		return "must name a database behind the host, at most 63 bytes: postgres://host/database"
	}
	for _, key := range sortedKeys(parameters) {
		if why := wrongParameter(key, parameters.Get(key)); why != "" {
			return why
		}
	}
	db.Kind, db.Path, db.URL = DatabasePostgres, Secret{}, Secret{s, shownURL(text, u)}
	return ""
}

const execMode = "default_query_exec_mode" // of pgx: how statements are sent, and whether they are prepared

// parameterValues are the values of parameters of which the driver knows all (pgx; PostgreSQL, libpq-ssl).
var parameterValues = map[string][]string{
	execMode:  {"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}, // a pooler needs exec
	"sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
}

// statementParameters are others by which people keep drivers from preparing statements. The first two are of pgx, where a
// capacity of 0 fails every query unless the mode is another one too; the rest are of its older versions and of other
// drivers, and fail every connection: the server does not know them.
var statementParameters = []string{
	"statement_cache_capacity", "description_cache_capacity", "statement_cache_mode", "prefer_simple_protocol",
	"binary_parameters", "pgbouncer", "prepareThreshold",
}

// wrongParameter says what is wrong with a parameter, or "". Those that the server knows and the driver does not are left to
// the server.
func wrongParameter(name, value string) (why string) {
	known := parameterValues[name]
	switch {
	case name == "" || strings.ContainsAny(value, "=\x00"):
		return wantedParameters
	case strings.HasPrefix(name, "pool_"):
		return "takes no pool_ parameters: " + databasePoolKey + " says it"
	case name == "connect_timeout":
		return "takes no connect_timeout: " + databaseTimeoutKey + " says it"
	case slices.Contains(statementParameters, name):
		return fmt.Sprintf("takes no %s: behind a pooler such as PgBouncer write %s=exec", name, execMode)
	case known != nil && !slices.Contains(known, value):
		return fmt.Sprintf("takes as %s only %s", name, strings.Join(known, ", "))
	}
	return ""
}

// parseTierURL parses a URL with an authority. First of all it refuses what some parsers take for the host and others for
// a part of the password.
func parseTierURL(s, wanted string, schemes ...string) (u *url.URL, why string) {
	_, rest, _ := strings.Cut(s, "://")
	if authority, _, _ := strings.Cut(rest, "@"); strings.Count(rest, "@") > 1 || authority != rest && strings.ContainsAny(authority, "/?#") {
		return nil, "has an @ in a wrong place; write @ / ? # of a user or a password as %40 %2F %3F %23"
	}
	if strings.Contains(s, " ") { // url.Parse takes it in a path, the drivers do not
		return nil, wanted
	}
	if u, why = parseURL(s, wanted, schemes...); why != "" {
		return nil, why
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, wantedParameters
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
