package streamable

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"
	"time"
)

// TestFileBound holds that the file of sessions is never so long that it cannot be read again, and that those that were used last are
// in it.
func TestFileBound(t *testing.T) {
	const most = maxFile / 16 // of which the whole takes seconds
	now := time.Now().Unix()
	var records []record
	for i := range 100 {
		form := `{"jsonrpc":"2.0","id":` + strconv.Itoa(i) + `,"method":"initialize","params":{"x":"` + string(bytes.Repeat([]byte("x"), maxInitialize-100)) + `"}}`
		records = append(records, record{ID: strconv.Itoa(i), Used: now - int64(i), Owner: make([]byte, 32), Facts: make([]byte, 32), initialize: []byte(form)})
	}
	content := encode(records, most)
	if len(content) > most {
		t.Errorf("%d bytes, of which %d can be read", len(content), most)
	}
	all, err := decode(content)
	if err != nil || len(all) < 700/16 || all[0].ID != "0" {
		t.Errorf("%d sessions, %v", len(all), err)
	}
}

// TestSessionsBound holds that there are at most so many sessions, in memory and in the file: the one that was used longest ago ends, with its
// process.
func TestSessionsBound(t *testing.T) {
	store := NewStore(StoreOptions{})
	defer store.Close()
	f := New(Options{Upstream: "x", Store: store})
	defer f.Close()
	first, server := opened(f, "first")
	second, other := opened(f, "second")
	store.find(f, "first")
	for i := range maxSessions - 1 {
		opened(f, strconv.Itoa(i))
	}
	if !second.ended || first.ended || other.released != 1 || server.released != 0 || store.find(f, "second") != nil || store.Len() != maxSessions {
		t.Errorf("ended: %v and %v; %d sessions", first.ended, second.ended, store.Len())
	}
	records := make([]record, maxSessions+1)
	now := time.Now().Unix()
	for i := range records {
		records[i] = record{ID: strconv.Itoa(i), Used: now - int64(i), Owner: make([]byte, 32), Facts: make([]byte, 32), initialize: first.initialize}
	}
	var written file
	if err := json.Unmarshal(encode(records, maxFile), &written); err != nil || len(written.Sessions) != maxSessions || written.Sessions[maxSessions-1].ID != strconv.Itoa(maxSessions-1) {
		t.Errorf("%d sessions are written, %v", len(written.Sessions), err)
	}
	content, err := json.Marshal(file{Format: fileFormat, Forms: [][]byte{first.initialize}, Sessions: records}) // somebody else has written it
	if err != nil {
		t.Fatal(err)
	}
	if all, err := decode(content); err != nil || len(all) != maxSessions {
		t.Errorf("%d sessions are read, %v", len(all), err)
	}
}
