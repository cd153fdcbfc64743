package session_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestEventTags holds how the ids of events pass: as they come in a session that was never lost; in one that was recovered,
// with a tag before each, whatever ends its lines and in however many pieces it comes, and all other bytes as they come.
func TestEventTags(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		want   string // TAG stands for the tag
	}{
		"first":         {[]string{"id: 7\ndata: x\n\n"}, "id: TAG7\ndata: x\n\n"},
		"last":          {[]string{"event: message\ndata: id: 8\nid: 7\n\n"}, "event: message\ndata: id: 8\nid: TAG7\n\n"},
		"without space": {[]string{"id:7\r\ndata: x\r\n\r\n"}, "id: TAG7\r\ndata: x\r\n\r\n"},
		"by CR":         {[]string{"data: x\rid:7\r\r"}, "data: x\rid: TAG7\r\r"},
		"empty":         {[]string{"id:\ndata: x\n\n"}, "id:\ndata: x\n\n"},
		"nothing":       {[]string{"id\ndata: x\n\n"}, "id\ndata: x\n\n"},
		"twice":         {[]string{"id: 6\nid: 7\ndata: x\n\n"}, "id: TAG6\nid: TAG7\ndata: x\n\n"},
		"pieces":        {[]string{"id: 7\ndata: x", "id: 8\nid", "x\n", "id: 9\n\n"}, "id: TAG7\ndata: xid: 8\nidx\nid: TAG9\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, recovered := range []bool{false, true} {
				raw, ids := passes(t, c.pieces, recovered)
				got := tag.FindString(ids)
				if recovered != (got != "") && strings.Contains(c.want, "TAG") {
					t.Errorf("recovered %v: the id is %q", recovered, ids)
				}
				if want := strings.ReplaceAll(c.want, "TAG", got); recovered && raw != want {
					t.Errorf("got %q, want %q", raw, want)
				}
				if !recovered && raw != strings.Join(c.pieces, "") {
					t.Errorf("of a session that was never lost got %q", raw)
				}
			}
		})
	}
}

// passes makes the server answer tools/list with an event, in pieces if there are several, and returns what the agent gets: all
// bytes, and the id.
func passes(t *testing.T, pieces []string, recovered bool) (raw, id string) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		if recovered {
			w.restart()
			a.list()
		}
		w.before = func(*mcp.Call) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Header: http.Header{}, Events: &events{list: asEvents(t, pieces), end: io.EOF}}, nil
		}
		res, err := a.post(context.Background(), a.request("tools/list", `{}`))
		must(err)
		raw, id = "", ""
		for {
			ev, err := res.Events.Next()
			if err == io.EOF {
				break
			}
			must(err)
			raw += string(ev.Raw)
			id = string(ev.ID)
		}
		closed(t, res)
	})
	return raw, id
}

// asEvents are the pieces of one event as the upstream hands them on.
func asEvents(t *testing.T, pieces []string) []mcp.Event {
	if len(pieces) == 1 {
		ev, err := mcp.NewEventReader(strings.NewReader(pieces[0]), nil, 1<<10).Next()
		if err != nil {
			t.Fatal(err)
		}
		ev.Raw = []byte(pieces[0])
		return []mcp.Event{ev}
	}
	var all []mcp.Event
	for i, p := range pieces {
		last := i == len(pieces)-1
		ev := mcp.Event{Raw: []byte(p), Partial: !last, Last: last}
		if last {
			ev.ID, ev.HasID = []byte("9"), true
		}
		all = append(all, ev)
	}
	return all
}
