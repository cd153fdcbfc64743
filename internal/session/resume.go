package session

import (
	"bytes"
	"hash/maphash"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// eventTag is put before the id of each event that the server sends in a place which is not the session's first: the
// place's number, so that a Last-Event-ID tells where it comes from. Without it, an id of before a recovery would look like
// one of after, as servers count from the start again.
type eventTag struct {
	text    string // "" for no tag
	midLine bool   // the piece of an event that passed last ended within a line
}

func (s *Stage) tagOf(at *place) eventTag {
	if at.number == 0 {
		return eventTag{}
	}
	return eventTag{text: s.tag + strconv.Itoa(at.number) + "-"}
}

// eventOf returns the server's own id in a Last-Event-ID of an agent's, and the number of the place that gave it.
func (s *Stage) eventOf(lastID string) (id string, number int) {
	if tagged, ok := strings.CutPrefix(lastID, s.tag); ok {
		if text, id, ok := strings.Cut(tagged, "-"); ok {
			if number, err := strconv.Atoi(text); err == nil {
				return id, number
			}
		}
	}
	return lastID, 0
}

// idField is the id field of an event as received, but for an empty one, which stays empty.
var idField = regexp.MustCompile("(^|[\r\n])id: ?([^\r\n])")

// put puts the tag before the event's id.
func (t *eventTag) put(ev *mcp.Event) {
	if t.text == "" || !ev.HasID && !ev.Partial { // the id of an event in pieces is known with the last one only
		return
	}
	from := 0
	if t.midLine {
		if from = bytes.IndexAny(ev.Raw, "\r\n"); from < 0 {
			from = len(ev.Raw)
		}
	}
	t.midLine = ev.Partial && !bytes.HasSuffix(ev.Raw, []byte("\n")) && !bytes.HasSuffix(ev.Raw, []byte("\r"))
	ev.Raw = slices.Concat(ev.Raw[:from], idField.ReplaceAll(ev.Raw[from:], []byte("${1}id: "+t.text+"${2}")))
	if len(ev.ID) > 0 {
		ev.ID = append([]byte(t.text), ev.ID...)
	}
}

// postStream is the stream of events on which the answer to a POST is due. As it has event ids, its agent may resume it by GET
// (2025-11-25, basic/transports, "Resumability"). Guarded by the session's lock.
type postStream struct {
	id       []byte    // the request's
	place    int       // of the place where it runs
	ids      [8]uint64 // hashes of the ids of its last events
	n        int       // how many events had one
	reported time.Time // when its agent got the error that says so; zero before
}

// keepReported is for how long a further GET gets 405 after its agent got the error of a lost call: it may ask once more.
const keepReported = 2 * time.Minute

// Event ids are remembered by a hash: a server may make them as long as it likes.
var idSeed = maphash.MakeSeed()

// addPostStream begins a POST stream. It returns nil where the request's id is too long to be remembered.
func (e *session) addPostStream(at *place, id []byte) *postStream {
	if len(id) > maxToken {
		return nil
	}
	p := &postStream{id: bytes.Clone(id), place: at.number}
	e.change(func() {
		e.postStreams = appendBounded(e.postStreams, p, maxPostStreams)
	})
	return p
}

// removePostStream ends a POST stream, nil for none: its answer has passed.
func (e *session) removePostStream(p *postStream) {
	if p == nil {
		return
	}
	e.change(func() {
		e.postStreams = slices.DeleteFunc(e.postStreams, func(q *postStream) bool { return p == q })
	})
}

// passedID notes the id of an event that passed on a POST stream, or on what resumed it.
func (e *session) passedID(p *postStream, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.ids[p.n%len(p.ids)] = maphash.String(idSeed, id)
	p.n++
}

// postStreamOf returns the latest POST stream of the place of that number with an event of that id, or nil.
func (e *session) postStreamOf(id string, number int) *postStream {
	h := maphash.String(idSeed, id)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range slices.Backward(e.postStreams) {
		expired := !p.reported.IsZero() && time.Since(p.reported) >= keepReported
		if p.place == number && !expired && slices.Contains(p.ids[:min(p.n, len(p.ids))], h) {
			return p
		}
	}
	return nil
}

// lostCallResult is the answer to a GET that resumes the stream of a lost call: a stream with that call's error. Who was told
// already gets 405, so that it does not ask again.
func (e *session) lostCallResult(p *postStream) *mcp.Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.reported.IsZero() {
		p.reported = time.Now()
		return mcp.StreamOf(&mcp.LostCall{ID: p.id, Message: "the server lost the session before it answered this call"})
	}
	res := textResult(http.StatusMethodNotAllowed, "fluentd-perf: the call of this stream was lost with its session\n")
	res.Header.Set("Allow", "POST, DELETE")
	return res
}
