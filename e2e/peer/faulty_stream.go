package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// beat is how often a stream says something.
const beat = 100 * time.Millisecond

// stream is a GET stream: a notice for its principal at every beat, until somebody leaves or it is cut.
func (f *faulty) stream(w http.ResponseWriter, r *http.Request) {
	who := tokenOf(r)
	if f.kind != "sessions" {
		send(w, text(http.StatusMethodNotAllowed, "no streams"))
		return
	}
	switch owner, ok := f.sessions.owner(r.Header.Get(sessionHeader)); {
	case !ok:
		send(w, text(http.StatusNotFound, "session not found "+f.seal("lost")))
		return
	case owner != who:
		f.note("! GET for %s in a session of %s", who, owner)
	}
	f.beats(w, r, f.notice(who), func() bool { _, ok := f.sessions.owner(r.Header.Get(sessionHeader)); return ok })
}

// listen is a stream of subscriptions/listen.
func (f *faulty) listen(w http.ResponseWriter, r *http.Request, m *message) {
	if f.kind != "modern" || m.ID == nil {
		send(w, text(http.StatusBadRequest, "no streams"))
		return
	}
	meta := fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/subscriptionId":%s,"seal":%q}`, m.ID, f.seal("notice", tokenOf(r)))
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":{\"toolsListChanged\":true},%s}}\n\n", meta)
	changed := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{%s}}`, meta)
	f.beats(w, r, changed, func() bool { return true })
}

// beats sends an event at every beat for as long as on says so.
func (f *faulty) beats(w http.ResponseWriter, r *http.Request, event string, on func() bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for on() {
		switch f.dice.roll() {
		case cutBefore, cutAfter:
			panic(http.ErrAbortHandler)
		case cutMiddle:
			_, _ = io.WriteString(w, "data: "+event[:len(event)/2])
			_ = out.Flush()
			panic(http.ErrAbortHandler)
		}
		if _, err := io.WriteString(w, "data: "+event+"\n\n"); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
