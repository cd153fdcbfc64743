package session

import (
	"bytes"
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of what is remembered of one session.
const (
	maxInitialize  = 64 << 10 // bytes: with a longer one the session is not healed
	maxCredentials = 16
	maxURIs        = 1_000
	maxURI         = 2 << 10 // bytes: a longer one is not subscribed to again
	maxPosts       = 64      // streams with event ids that owe an answer
	maxAsked       = 256     // requests of the server's without an answer
	maxToken       = 1 << 10 // bytes of an id that is remembered
	maxEventIDs    = 256
	healsPerMinute = 3

	keepTold = 2 * time.Minute // for a post that was told to be lost: an agent may ask once more
)

// place is where a session lives on its server: under which id, and after how many healings. A server may mint the same
// id twice, so only the number says whether two places are the same.
type place struct {
	id     string
	header []string // the id as a header's value, shared by all calls
	gen    int
	gone   bool // the server has given the id to another session since, so this one is lost
}

// session is what is known of one session of an agent's.
type session struct {
	name    string   // the id that the agent knows
	key     string   // of the table
	opening *opening // nil: not seen, or too large

	// The table's.
	table   *table // nil: in none
	element *list.Element
	used    time.Time
	living  string       // the key under which it stands in table.living; "" for none
	weighed atomic.Int64 // of weight, what is in the table's sum

	weight atomic.Int64 // bytes that the session takes, about; grows under mu

	initialized atomic.Bool // the server took notifications/initialized, or answered something in it

	accepted atomic.Bool  // its GET stream was accepted once
	streams  atomic.Int32 // GET streams that are open

	mu        sync.Mutex // guards the following
	at        place
	owes      bool // one 1410: see heal.go
	ended     bool // by DELETE
	healing   *healing
	probes    map[probeKey]*probe // pings under way
	begun     []time.Time         // when healings of the last minute began
	trusted   [][32]byte          // credentials that had a 2xx, the latest last
	level     string              // of the last logging/setLevel that was accepted, as raw JSON
	uris      [][]byte            // resources that are subscribed to, as raw JSON, in order
	posts     []*post
	fresh     recentIDs // of events in the place
	old       recentIDs // of events in places of before
	asked     []asked
	unread    bool               // something came that nobody could read,
	unreadGen int                // in the place after so many healings
	moves     map[*stream]func() // what makes an open GET stream look for the session's new place
}

// place returns where the session lives now.
func (e *session) place() place {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// trust notes that the credential had a 2xx in this session.
func (e *session) trust(credential [32]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.trustsLocked(credential) {
		return
	}
	if len(e.trusted) == maxCredentials {
		e.trusted = slices.Delete(e.trusted, 0, 1)
		e.weigh(-len(credential))
	}
	e.trusted = append(e.trusted, credential)
	e.weigh(len(credential))
}

// weigh notes that the session takes more, or less. The table learns of it by table.weigh.
func (e *session) weigh(bytes int) { e.weight.Add(int64(bytes)) }

// accept notes a request that the server has accepted, if it says something that a healing has to say again.
func (e *session) accept(c *mcp.Call) {
	switch c.Method() {
	case mcp.MethodLoggingSetLevel:
		level, err := mcp.Member(c.Message.Params.Of(c.Body), "level")
		if err == nil && level.Present() {
			e.setLevel(level.Of(c.Message.Params.Of(c.Body)))
		}
	case mcp.MethodResourcesSubscribe:
		e.subscribe(c.Message.URI.Of(c.Body))
	case mcp.MethodResourcesUnsubscribe:
		e.unsubscribe(c.Message.URI.Of(c.Body))
	}
}

func (e *session) setLevel(token []byte) {
	if len(token) > maxToken {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.weigh(len(token) - len(e.level))
	e.level = string(token)
}

func (e *session) subscribe(token []byte) {
	if len(token) == 0 || len(token) > maxURI {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.uris) == maxURIs || e.indexLocked(token) >= 0 {
		return
	}
	e.uris = append(e.uris, bytes.Clone(token))
	e.weigh(entryBytes + len(token))
}

func (e *session) unsubscribe(token []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.indexLocked(token)
	if i < 0 {
		return
	}
	e.weigh(-entryBytes - len(e.uris[i]))
	e.uris = slices.Delete(e.uris, i, i+1)
}

// indexLocked finds a uri, which may be spelled with other escapes.
func (e *session) indexLocked(token []byte) int {
	return slices.IndexFunc(e.uris, func(uri []byte) bool { return mcp.SameID(uri, token) })
}
