package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"

	goredis "github.com/redis/go-redis/v9"
)

// script is one that the server runs by the hash of its text, in one piece: nothing else happens on the server between its
// first line and its last.
type script struct{ text, hash string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) // by which the server names it, not for secrecy
	return script{text: text, hash: hex.EncodeToString(sum[:])}
}

// tokenOf is what both scripts say of tokens. What is stored is random; what daemons see, and what entries are written
// under, is a hash of it with the run id of the server's process. So a server that starts again with an older state from
// its disk, or a replica that takes the place of its master without the last bumps, has other tokens than were ever seen,
// although the stored ones came back. A server that does not say its run id loses that, and no more.
const tokenOf = `
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local function seen(stored) return string.sub(redis.sha1hex(run .. ':' .. stored), 1, 16) end
local function stored(key)
  local s = redis.pcall('GETRANGE', key, 0, 63)
  return type(s) == 'string' and s ~= '' and s or nil
end
`

// readScript has as KEYS the values and then the tokens, as ARGV the number of values, the most bytes of one, the life of a
// token in seconds, and a new token for each. It answers the values, empty where there is none, and then the tokens. What is
// too large or no string is deleted unread.
var readScript = newScript(tokenOf + `
local n, most, out = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 1, n do
  local v = redis.pcall('GETRANGE', KEYS[i], 0, most)
  if type(v) ~= 'string' or #v > most then
    redis.call('UNLINK', KEYS[i])
    v = ''
  end
  out[i] = v
end
for i = n + 1, #KEYS do
  local s = stored(KEYS[i])
  if not s then
    s = ARGV[3 + i - n]
    redis.call('SET', KEYS[i], s, 'EX', ARGV[3])
  end
  out[i] = seen(s)
end
return out
`)

// writeScript has as KEYS the value and then its tokens, as ARGV the value at rest, its life in milliseconds, the life of a
// token in seconds, and the tokens as they were read. It stores the value only if all hold; one without life it takes away.
var writeScript = newScript(tokenOf + `
for i = 2, #KEYS do
  local s = stored(KEYS[i])
  if not s or seen(s) ~= ARGV[2 + i] then return 0 end
end
if ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
`)

// call is one run of a script.
type call struct {
	keys []string
	args []any
}

// eval runs the script once for each call, in one round trip; in one more where the server does not know the script, as
// after its start. It returns the answers, and an error where any of the runs failed.
func (t *Tier) eval(ctx context.Context, s *script, calls []call) ([]any, error) {
	cmds := t.send(ctx, s, calls, false)
	var again []call
	for i, c := range cmds {
		if goredis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
			again = append(again, calls[i])
		}
	}
	if again != nil {
		retried := t.send(ctx, s, again, true)
		for i, c := range cmds {
			if goredis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
				cmds[i], retried = retried[0], retried[1:]
			}
		}
	}
	return results(cmds)
}

// send runs the calls in one pipeline, behind the script's text where the server has to learn it. Each command has its own
// error.
//
// Where the server refuses the connection itself (WRONGPASS), the driver sends nothing, tells the pipeline, and leaves the
// commands as they are: without an answer, and without an error.
func (t *Tier) send(ctx context.Context, s *script, calls []call, learn bool) []*goredis.Cmd {
	cmds := make([]*goredis.Cmd, len(calls))
	sent, err := t.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
		if learn {
			p.ScriptLoad(ctx, s.text)
		}
		for i, c := range calls {
			cmds[i] = p.EvalSha(ctx, s.hash, c.keys, c.args...)
		}
		return nil
	})
	if err != nil && !slices.ContainsFunc(sent, func(c goredis.Cmder) bool { return c.Err() != nil }) {
		for _, c := range cmds {
			c.SetErr(err)
		}
	}
	return cmds
}

// results takes the answers out of the commands. Its error is the first, with the number of those that failed.
func results(cmds []*goredis.Cmd) ([]any, error) {
	replies := make([]any, len(cmds))
	var first error
	failed := 0
	for i, c := range cmds {
		reply, err := c.Result()
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
		replies[i] = reply
	}
	if first != nil && len(cmds) > 1 {
		return nil, fmt.Errorf("%d of %d: %w", failed, len(cmds), first)
	}
	return replies, first
}

// stringsOf reads a script's answer that is a list of strings.
func stringsOf(reply any) ([]string, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errRubbish
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return nil, errRubbish
		}
	}
	return out, nil
}
