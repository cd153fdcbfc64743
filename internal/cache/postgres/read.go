package postgres

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// An entry lives entryLife at most, so what is older of tokens guards nothing and may go.
const (
	entryLife = 25 * time.Hour
	tokenLife = 26 * time.Hour
)

// named returns a key or generation as it is stored, with the prefix before it. Their lengths tell prefixes apart where one
// is the beginning of another.
func (t *adapter) named(name []byte) []byte { return append(slices.Clip(t.prefix), name...) }

// derived makes the token of a generation that has none of its own of a number that it shares with others; and of the token
// the number.
func derived(number uint64, g *tier.Generation) tier.Token {
	return tier.Token(number ^ binary.BigEndian.Uint64(g[8:]))
}

// newToken returns a random token; never 0, which is none.
func newToken() int64 { return 1 + rand.Int64N(math.MaxInt64) }

const (
	// Values and tokens come by one statement, hence from one moment: an entry is answered only under tokens that hold.
	// What is larger than an entry of ours can be is not even sent.
	sqlRead = `SELECT generation, NULL::bytea, token FROM fluentd_perf_tokens WHERE generation = ANY($2)
	UNION ALL
	SELECT key, CASE WHEN octet_length(value) <= $4 THEN value ELSE '' END, 0 FROM fluentd_perf_entries WHERE key = ANY($1) AND expires > $3`

	// The number of which tokens are made until a generation has one of its own is stored under the prefix alone and stays.
	// Where another daemon was faster, its number is that.
	sqlMakeNumber = `INSERT INTO fluentd_perf_tokens AS present (generation, token, used) VALUES ($1, $2, $3)
	ON CONFLICT (generation) DO UPDATE SET used = excluded.used, token = CASE present.token WHEN 0 THEN excluded.token ELSE present.token END
	RETURNING generation, NULL::bytea, token`
)

// Read implements tier.Tier.
func (t *adapter) Read(ctx context.Context, lookups []tier.Lookup) (found []tier.Found, err error) {
	if len(lookups) == 0 {
		return nil, nil
	}
	keys, generations := make([][]byte, len(lookups)), [][]byte{t.prefix}
	for i := range lookups {
		keys[i] = t.named(lookups[i].Key[:])
		for _, g := range lookups[i].Generations {
			generations = append(generations, t.named(g[:]))
		}
	}
	err = t.call(ctx, "read", func(ctx context.Context, conn *pgxpool.Conn) error {
		a := answer{prefix: len(t.prefix), stored: make(map[tier.Key][]byte, len(keys)), tokens: make(map[tier.Generation]tier.Token, len(generations))}
		err := a.take(conn.Query(ctx, sqlRead, keys, generations, time.Now().UnixMilli(), t.codec.MaxStored()))
		if err == nil && a.number == 0 {
			err = a.take(conn.Query(ctx, sqlMakeNumber, t.prefix, newToken(), int64(math.MaxInt64)))
		}
		if err == nil {
			found = t.found(ctx, conn, &a, lookups, keys)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// answer is what the server answered to a Read.
type answer struct {
	prefix int // its length
	stored map[tier.Key][]byte
	tokens map[tier.Generation]tier.Token // none or 0 where it has none of its own
	number uint64                         // of which the tokens of those are made; 0 where it is not there yet
}

// take reads rows of a name, a value where it is a key's, and a token where it is a generation's.
func (a *answer) take(rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	var name, value []byte
	var token int64
	_, err = pgx.ForEachRow(rows, []any{&name, &value, &token}, func() error {
		switch name = name[min(a.prefix, len(name)):]; {
		case value != nil && len(name) == len(tier.Key{}):
			a.stored[tier.Key(name)] = value
		case value == nil && len(name) == 0:
			a.number = uint64(token)
		case value == nil && len(name) == len(tier.Generation{}):
			a.tokens[tier.Generation(name)] = tier.Token(token)
		}
		return nil
	})
	return err
}

// found makes the answers, and removes entries that make no sense.
func (t *adapter) found(ctx context.Context, conn *pgxpool.Conn, a *answer, lookups []tier.Lookup, keys [][]byte) []tier.Found {
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	var damaged [][]byte
	var why error
	for i := range lookups {
		found[i].Tokens = make([]tier.Token, len(lookups[i].Generations))
		for j, g := range lookups[i].Generations {
			if found[i].Tokens[j] = a.tokens[g]; found[i].Tokens[j] == 0 {
				found[i].Tokens[j] = derived(a.number, &g)
			}
		}
		stored := a.stored[lookups[i].Key]
		if stored == nil {
			continue
		}
		if err := t.codec.Decode(&found[i], &lookups[i].Key, stored, now); err != nil {
			damaged, why = append(damaged, keys[i]), err
		}
	}
	if damaged != nil {
		n := t.damaged.Add(int64(len(damaged)))
		t.warning.Do(func() {
			t.opt.Log.Warn("entries of the cache's database that make no sense are removed", "times", n, "error", why)
		})
		_ = remove(ctx, conn, damaged) // if they stay, they are misses again
	}
	return found
}
