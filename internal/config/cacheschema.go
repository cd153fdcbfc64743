package config

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// cache reads the tiers and what they share.
func (d *decoder) cache(c *Cache) reader {
	read := d.mapping(keys{
		"memory":        d.memory(&c.Memory),
		"redis":         d.redis(&c.Redis),
		"database":      d.database(&c.Database),
		"partition_key": d.partitionKey(&c.PartitionKey),
		"inert_headers": d.list(d.inertHeader(&c.InertHeaders)),
	})
	return func(at key, n *node) {
		read(at, n)
		if c.Redis.URL != "" && c.Database.Kind == DatabaseSQLite {
			d.noFile(d.at(at, "database"), &c.Database)
		}
	}
}

// noFile has no embedded file beside Redis: of what other daemons change a file of this one's own would know nothing.
func (d *decoder) noFile(at key, db *Database) {
	const why = "means nothing beside cache.redis: the embedded file is for a daemon that shares nothing"
	if d.sound(at, "url") {
		d.refuse(at, why+"; leave it out, or name a Postgres server", "url")
		d.refuse(at, why, "timeout", "size", "private_reads")
	}
	*db = Database{Kind: DatabaseOff}
}

func (d *decoder) memory(m *Memory) reader {
	read := d.mapping(keys{
		"size":      d.size(&m.Size, leastMemory, mostMemory),
		"max_entry": d.size(&m.MaxEntry, leastEntry, mostEntry),
	})
	return func(at key, n *node) {
		read(at, n)
		d.checkMemory(at, m)
	}
}

// checkMemory keeps one entry from pushing many out. The default gives way to a small size.
func (d *decoder) checkMemory(at key, m *Memory) {
	switch {
	case !d.given(at, "max_entry"):
		m.MaxEntry = min(m.MaxEntry, m.Size/16)
	case d.sound(at, "size") && d.sound(at, "max_entry") && m.MaxEntry > m.Size/8:
		d.fault(d.at(at, "max_entry"), "must not be above an eighth of size (%s)", formatSize(m.Size/8))
	}
}

func (d *decoder) redis(r *Redis) reader {
	read := d.mapping(keys{
		"url":     d.redisURL(r),
		"timeout": d.durationIn(&r.Timeout, aboveZero, mostTierTimeout),
		"pool":    d.count(&r.Pool, 1, mostRedisPool),
	})
	return func(at key, n *node) {
		read(at, n)
		if r.URL == "" && d.sound(at, "url") {
			d.refuse(at, "means nothing without url", "timeout", "pool")
		}
	}
}

func (d *decoder) database(db *Database) reader {
	read := d.mapping(keys{
		"url":           d.databaseURL(db),
		"timeout":       d.durationIn(&db.Timeout, aboveZero, mostTierTimeout),
		"size":          d.size(&db.Size, leastDatabase, mostDatabase),
		"private_reads": d.boolean(&db.PrivateReads),
		"pool": d.mapping(keys{
			"max":      d.count(&db.PoolMax, 1, mostPostgresPool),
			"lifetime": d.durationIn(&db.PoolLifetime, leastLifetime, longest),
		}),
	})
	return func(at key, n *node) {
		db.PoolMax, db.PoolLifetime = 4, time.Hour
		read(at, n)
		if d.sound(at, "url") {
			d.checkDatabase(at, db)
		}
	}
}

// checkDatabase leaves a kind with the settings that it has.
func (d *decoder) checkDatabase(at key, db *Database) {
	switch db.Kind {
	case DatabaseSQLite:
		d.refuse(at, "means nothing with SQLite: a file has no pool of connections", "pool")
		db.PoolMax, db.PoolLifetime = 0, 0
	case DatabasePostgres:
		d.refuse(at, "means nothing with Postgres: it bounds the file of SQLite", "size")
		db.Size = 0
	case DatabaseOff:
		d.refuse(at, "means nothing with url off", "timeout", "size", "private_reads", "pool")
		*db = Database{Kind: DatabaseOff}
	}
}

// refuse says why of each of the keys that is given.
func (d *decoder) refuse(at key, why string, names ...string) {
	for _, name := range names {
		if d.given(at, name) {
			d.fault(d.at(at, name), "%s", why)
		}
	}
}

// partitionKey reads the secret that daemons share. One of nothing means none only where nothing is written.
func (d *decoder) partitionKey(into *string) reader {
	return func(at key, n *node) {
		if n.kind == kindText && n.text == "" {
			return
		}
		s, ok := d.expandYAML(at, n)
		switch {
		case !ok:
		case len(s) < leastKey:
			d.fault(at, "must have at least %d bytes", leastKey)
		default:
			*into = s
		}
	}
}

func (d *decoder) inertHeader(into *[]string) reader {
	return func(at key, n *node) {
		s, ok := d.text(at, n)
		if !ok {
			return
		}
		switch name := http.CanonicalHeaderKey(s); {
		case !isToken(s):
			d.fault(at, "is not a name that a header can have")
		case credentials[name]:
			d.fault(at, "cannot be inert: it is a credential, and answers never cross credentials")
		case strings.HasPrefix(name, "Mcp-Param-"):
			d.fault(at, "cannot be inert: it is a part of what is asked for")
		case slices.Contains(*into, name):
			d.fault(at, "is given twice: names of headers know no upper and lower case")
		default:
			*into = append(*into, name)
		}
	}
}

// credentials are headers that say who asks, whatever else they say.
var credentials = map[string]bool{
	"Authorization":       true,
	"Proxy-Authorization": true,
	"Cookie":              true,
	"Fluentd-Perf-Token":  true,
	"Api-Key":             true,
	"X-Api-Key":           true,
	"X-Auth-Token":        true,
	"X-Access-Token":      true,
}

// group reads a name or a number, written as a string.
func (d *decoder) group(into *string) reader {
	return func(at key, n *node) {
		s, ok := d.text(at, n)
		switch {
		case !ok:
		case s != "" && !isGroup(s):
			d.fault(at, "must be the name or the number of a group, not %s", shown(s))
		default:
			*into = s
		}
	}
}

// isGroup reports whether a system can have such a group. Directories give names with spaces, dots and backslashes.
func isGroup(s string) bool {
	bad := func(r rune) bool { return r < ' ' || r == 0x7F || strings.ContainsRune(":,/", r) }
	return len(s) <= 256 && s[0] != '-' && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, bad)
}
