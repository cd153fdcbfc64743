package sqldb

import (
	"bytes"
	"context"
	"encoding/base64"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// A key or generation of ours is stored with the prefix before it. Their lengths tell prefixes apart where one is the
// beginning of another.
func (p *Postgres) named(name []byte) []byte { return append(slices.Clip(p.prefix), name...) }

// Values and tokens come by one statement, hence from one moment: an entry is answered only under tokens that hold.
// What is larger than an entry of ours can be is not even sent.
const pgRead = `SELECT generation, NULL::bytea, token FROM fluentd_perf_tokens WHERE generation = ANY($2)
	UNION ALL
	SELECT key, CASE WHEN octet_length(value) <= $4 THEN value ELSE '' END, 0 FROM fluentd_perf_entries WHERE key = ANY($1) AND expires > $3`

// Read implements cache.Tier.
func (p *Postgres) Read(ctx context.Context, lookups []tier.Lookup) (found []tier.Found, err error) {
	if len(lookups) == 0 {
		return nil, nil
	}
	q := p.newPgReading(lookups)
	err = p.call(ctx, "read", func(ctx context.Context, conn *pgxpool.Conn) error {
		if err := q.ask(ctx, conn); err != nil {
			return err
		}
		found, err = p.found(ctx, conn, q, lookups)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// pgReading is a Read: what is asked, each name once, and what was answered.
type pgReading struct {
	prefix      int // its length
	most        int // bytes of a stored value
	keys        [][]byte
	generations [][]byte
	stored      map[tier.Key][]byte
	tokens      map[tier.Generation]tier.Token // 0 where it has none of its own
	number      uint64                         // of which the tokens of those are made; 0 where it is not there yet
}

func (p *Postgres) newPgReading(lookups []tier.Lookup) *pgReading {
	q := &pgReading{
		prefix: len(p.prefix), most: p.codec.most(), keys: make([][]byte, len(lookups)),
		generations: [][]byte{p.prefix},
		stored:      make(map[tier.Key][]byte, len(lookups)), tokens: make(map[tier.Generation]tier.Token, 2*len(lookups)),
	}
	for i := range lookups {
		q.keys[i] = p.named(lookups[i].Key[:])
		for _, g := range lookups[i].Generations {
			if _, ok := q.tokens[g]; !ok {
				q.tokens[g] = 0
				q.generations = append(q.generations, p.named(g[:]))
			}
		}
	}
	return q
}

func (q *pgReading) ask(ctx context.Context, conn *pgxpool.Conn) error {
	return q.take(conn.Query(ctx, pgRead, q.keys, q.generations, time.Now().UnixMilli(), q.most))
}

// take reads rows of a name, a value where it is a key's, and a token where it is a generation's.
func (q *pgReading) take(rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	var name, value []byte
	var token int64
	for rows.Next() {
		if err := rows.Scan(&name, &value, &token); err != nil {
			return err
		}
		switch name = name[min(q.prefix, len(name)):]; {
		case value != nil && len(name) == len(tier.Key{}):
			q.stored[tier.Key(name)] = value
		case value == nil && len(name) == 0:
			q.number = uint64(token)
		case value == nil && len(name) == len(tier.Generation{}):
			q.tokens[tier.Generation(name)] = tier.Token(token)
		}
	}
	return rows.Err()
}

// found makes the answers.
func (p *Postgres) found(ctx context.Context, conn *pgxpool.Conn, q *pgReading, lookups []tier.Lookup) ([]tier.Found, error) {
	if q.number == 0 {
		if err := p.makeNumber(ctx, conn, q); err != nil {
			return nil, err
		}
	}
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	var damaged [][]byte
	var why error
	for i := range lookups {
		found[i].Tokens = make([]tier.Token, len(lookups[i].Generations))
		for j, g := range lookups[i].Generations {
			if found[i].Tokens[j] = q.tokens[g]; found[i].Tokens[j] == 0 {
				found[i].Tokens[j] = derived(q.number, &g)
			}
		}
		if stored := q.stored[lookups[i].Key]; stored != nil {
			if err := p.codec.answer(&found[i], &lookups[i].Key, stored, now); err != nil {
				damaged, why = append(damaged, q.keys[i]), err
			}
		}
	}
	if damaged != nil {
		p.damage.say(p.opt.Log, "entries of the cache's database that make no sense are removed", len(damaged), why)
		_ = p.remove(ctx, conn, damaged) // if they stay, they are misses again
	}
	return found, nil
}

// makeNumber makes the number of which tokens are made until a generation has one of its own. It is stored under the prefix
// alone and stays. Where another daemon was faster, its number is that.
func (p *Postgres) makeNumber(ctx context.Context, conn *pgxpool.Conn, q *pgReading) error {
	return q.take(conn.Query(ctx, `INSERT INTO fluentd_perf_tokens AS present (generation, token, used) VALUES ($1, $2, $3)
		ON CONFLICT (generation) DO UPDATE SET used = excluded.used, token = CASE present.token WHEN 0 THEN excluded.token ELSE present.token END
		RETURNING generation, NULL::bytea, token`, p.prefix, int64(newToken()), int64(math.MaxInt64)))
}

// sorted puts names in the one order in which everybody locks rows, so that nobody waits in a ring.
func sorted(names [][]byte) [][]byte {
	slices.SortFunc(names, bytes.Compare)
	return slices.CompactFunc(names, bytes.Equal)
}

func newTokens(n int) []int64 {
	tokens := make([]int64, n)
	for i := range tokens {
		tokens[i] = int64(newToken())
	}
	return tokens
}

// Bump implements cache.Tier. The new tokens and the messages that tell of them are one transaction. The tokens stay until
// nothing can be there any more that was written, or is yet to be written, under what was read before: see entryLife.
func (p *Postgres) Bump(ctx context.Context, generations []tier.Generation) error {
	if len(generations) == 0 {
		return nil
	}
	names := make([][]byte, len(generations))
	for i := range generations {
		names[i] = p.named(generations[i][:])
	}
	names = sorted(names)
	return p.call(ctx, "bump", func(ctx context.Context, conn *pgxpool.Conn) error {
		batch := new(pgx.Batch)
		batch.Queue(`INSERT INTO fluentd_perf_tokens (generation, token, used) SELECT *, $3::bigint FROM unnest($1::bytea[], $2::bigint[])
			ON CONFLICT (generation) DO UPDATE SET token = excluded.token, used = excluded.used`, names, newTokens(len(names)), time.Now().Unix())
		for some := range slices.Chunk(generations, notifyChunk) {
			batch.Queue("SELECT pg_notify($1, $2)", p.channel(), base64.RawStdEncoding.EncodeToString(p.sender.Message(some)))
		}
		return conn.SendBatch(ctx, batch).Close()
	})
}

// Delete implements cache.Tier.
func (p *Postgres) Delete(ctx context.Context, keys []tier.Key) error {
	if len(keys) == 0 {
		return nil
	}
	names := make([][]byte, len(keys))
	for i := range keys {
		names[i] = p.named(keys[i][:])
	}
	return p.call(ctx, "delete", func(ctx context.Context, conn *pgxpool.Conn) error {
		return p.remove(ctx, conn, names)
	})
}

func (p *Postgres) remove(ctx context.Context, conn *pgxpool.Conn, names [][]byte) error {
	_, err := conn.Exec(ctx, `DELETE FROM fluentd_perf_entries WHERE key IN
		(SELECT key FROM fluentd_perf_entries WHERE key = ANY($1) ORDER BY key FOR UPDATE)`, names)
	return err
}
