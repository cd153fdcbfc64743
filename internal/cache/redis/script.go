package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache/tier"
)

// script is one that the server runs by the hash of its text, in one piece: nothing else happens on the server between its
// first line and its last.
type script struct{ text, hash string }

func newScript(text string) *script { return &script{text, goredis.NewScript(text).Hash()} }

// tokenOf is what both scripts say of tokens. KEYS[1] is the hash of slots, ARGV[1] the run id of the server's process.
//
// A generation has a token of its own only while something is stored under it: the write makes it. Until then its token is
// made of a random number that it shares with others, its slot's, and of its name. A bump removes the slot's number and the
// token, in this order: who has read before the one and writes after it is refused, and what was stored under the token is
// not served after the other. A read makes a slot's number where it is missing, and nothing else, so that what reads leave
// behind is bounded. Of what the server evicts nothing comes back that was bumped.
//
// What daemons see, and what entries are written under, is a hash of that with the run id. So a server that starts again
// with an older state from its disk, or a replica that takes the place of its master without the last bumps, has other
// tokens than were ever seen, although the stored ones came back. A server that does not say its run id loses that, and no
// more.
var tokenOf = fmt.Sprintf("local life = %d", int(tokenLife.Seconds())) + `
local function seen(token) return string.sub(redis.sha1hex(ARGV[1] .. ':' .. token), 1, 16) end
local function stored(key)
  local s = redis.pcall('GETRANGE', key, 0, 63)
  return type(s) == 'string' and s ~= '' and s or nil
end
local function number(key)
  local n = redis.pcall('HGET', KEYS[1], string.sub(key, -22, -21))
  return type(n) == 'string' and #n == 16 and n or nil
end
local function make(number, key) return number .. string.sub(key, -22) end
`

// readScript has as KEYS, after the slots, the values and then the tokens, as ARGV, after the run id, the number of values,
// the most bytes of one, and a new number for the slots. It answers the values, empty where there
// is none, and then the tokens. What is too large or no string is deleted unread. A server without room for a number answers
// with a token under which nothing can be written.
var readScript = newScript(tokenOf + `
local n, most, out = tonumber(ARGV[2]), tonumber(ARGV[3]), {}
for i = 2, n + 1 do
  local v = redis.pcall('GETRANGE', KEYS[i], 0, most)
  if type(v) ~= 'string' or #v > most then
    redis.call('UNLINK', KEYS[i])
    v = ''
  end
  out[i - 1] = v
end
for i = n + 2, #KEYS do
  local s = stored(KEYS[i])
  if not s then
    local slot = number(KEYS[i])
    if not slot then
      slot = ARGV[4]
      if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('UNLINK', KEYS[1]) end
      redis.pcall('HSET', KEYS[1], string.sub(KEYS[i], -22, -21), slot)
      redis.pcall('EXPIRE', KEYS[1], life)
    end
    s = make(slot, KEYS[i])
  end
  out[i - 1] = seen(s)
end
return out
`)

// writeScript has as KEYS, after the slots, the value and then its tokens, as ARGV, after the run id, the value at rest, its
// life in milliseconds, and the tokens as they were read. It stores the value only if all
// hold, and with it those that are not stored yet; one without life it removes.
var writeScript = newScript(tokenOf + `
local new = {}
for i = 3, #KEYS do
  local s = stored(KEYS[i])
  if not s then
    local slot = number(KEYS[i])
    s = slot and make(slot, KEYS[i])
    new[i] = s
  end
  if not s or seen(s) ~= ARGV[1 + i] then return 0 end
end
if ARGV[3] == '0' then
  redis.call('UNLINK', KEYS[2])
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
for i = 3, #KEYS do
  if new[i] then
    redis.call('SET', KEYS[i], new[i], 'EX', life)
  else
    redis.call('EXPIRE', KEYS[i], life)
  end
end
return 1
`)

// call is one run of a script: its KEYS after the slots, and its ARGV after the run id.
type call struct {
	keys []string
	args []any
}

// newCall has room for both, and for what comes before them.
func newCall(keys, args int) call {
	return call{keys: make([]string, 1, 1+keys), args: make([]any, 1, 1+args)}
}

// eval runs the script once for each call, in one round trip; in one more where the server does not know the script, as
// after its start. Then all run again: those that had run do the same once more. It returns the commands, and an error where
// any of them failed, or where the run id that they were given may not be that of the server that answered.
func (t *adapter) eval(ctx context.Context, s *script, calls []call) ([]*goredis.Cmd, error) {
	at := t.dialer.calls.Load()
	for _, c := range calls {
		c.keys[0], c.args[0] = t.names.slots, at.run
	}
	cmds, err := t.send(ctx, s, calls, false)
	if slices.ContainsFunc(cmds, func(c *goredis.Cmd) bool { return goredis.HasErrorPrefix(c.Err(), "NOSCRIPT") }) {
		cmds, err = t.send(ctx, s, calls, true)
	}
	if t.dialer.calls.Load() != at {
		err = errors.Join(err, tier.ErrOtherServer)
	}
	return cmds, err
}

// send runs the calls in one pipeline, behind the script's text where the server has to learn it. Its error is that of
// the first command that failed, with the number of those that did. Where the server refuses the connection itself
// (WRONGPASS), the driver sends nothing, tells the pipeline alone, and leaves the commands without an answer and an error.
func (t *adapter) send(ctx context.Context, s *script, calls []call, learn bool) ([]*goredis.Cmd, error) {
	cmds := make([]*goredis.Cmd, len(calls))
	_, err := t.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
		if learn { // not by EVAL: what a server knows from that it forgets when it has run 500 others
			p.ScriptLoad(ctx, s.text)
		}
		for i, c := range calls {
			cmds[i] = p.EvalSha(ctx, s.hash, c.keys, c.args...)
		}
		return nil
	})
	failed := 0
	for _, c := range cmds {
		if c.Err() != nil {
			failed++
		}
	}
	if failed > 0 && len(cmds) > 1 {
		err = fmt.Errorf("%d of %d: %w", failed, len(cmds), err)
	}
	return cmds, err
}
