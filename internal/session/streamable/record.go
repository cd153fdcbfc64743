package streamable

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/safefile"
)

const (
	fileFormat = 1
	maxFile    = 64 << 20 // bytes
)

// file is the Store's file. An initialize is there once, however many sessions began with the same, and so is a result.
type file struct {
	Format   int
	Forms    [][]byte // initialize, whole
	Results  [][]byte `json:",omitempty"` // of initialize, that sessions were given from memory
	Sessions []record // that which was used last first
}

// record is what outlives a session's process and the daemon.
type record struct {
	Upstream, ID  string
	Owner, Facts  []byte
	Form          int
	Version       string
	Level         []byte   `json:",omitempty"`
	URIs          [][]byte `json:",omitempty"`
	Initialized   bool     `json:",omitempty"`
	State, Notice bool     `json:",omitempty"`
	Used          int64    // Unix seconds

	Recalled    *recalledRecord    `json:",omitempty"` // it has had no process yet
	Unconfirmed *unconfirmedRecord `json:",omitempty"` // what it was given from memory is still to be compared

	initialize []byte
}

// recalledRecord is what a session without a process was given from memory.
type recalledRecord struct {
	Result int               // of Results
	Lists  map[string][]byte // hashes, by method

	result []byte
}

// unconfirmedRecord is what a session was given from memory that no process has been compared with.
type unconfirmedRecord struct {
	Lists    map[string][]byte // hashes, by method
	Declared family            // of which its agent is to hear
}

// session makes the session again; nil where the record is none.
func (r *record) session(f *Front) *session {
	if len(r.Owner) != 32 || len(r.Facts) != 32 || r.ID == "" {
		return nil
	}
	s := newSession(f, r.ID, [32]byte(r.Owner))
	s.initialize, s.facts, s.version = r.initialize, [32]byte(r.Facts), r.Version
	s.level, s.uris, s.initialized, s.state, s.notice = r.Level, r.URIs, r.Initialized, r.State, r.Notice
	s.used = time.Unix(r.Used, 0)
	s.saved = s.used
	s.recalled, s.confirmation = r.Recalled.recalled(), r.Unconfirmed.confirmation()
	return s
}

func (r *recalledRecord) recalled() *recalled {
	if r == nil {
		return nil
	}
	return &recalled{result: r.result, lists: sumsOf(r.Lists)}
}

func (r *unconfirmedRecord) confirmation() *confirmation {
	if r == nil {
		return nil
	}
	return &confirmation{lists: sumsOf(r.Lists), declared: r.Declared}
}

func (c *confirmation) record() *unconfirmedRecord {
	if c == nil {
		return nil
	}
	return &unconfirmedRecord{Lists: hashesOf(c.lists), Declared: c.declared}
}

// sumsOf returns the hashes of lists as they stand in the file. What is none is left out.
func sumsOf(hashes map[string][]byte) map[mcp.Method][32]byte {
	sums := make(map[mcp.Method][32]byte)
	for name, sum := range hashes {
		if method := mcp.MethodOf([]byte(name)); familyOf(method) != 0 && len(sum) == 32 {
			sums[method] = [32]byte(sum)
		}
	}
	return sums
}

// hashesOf returns the hashes of lists for the file.
func hashesOf(sums map[mcp.Method][32]byte) map[string][]byte {
	hashes := make(map[string][]byte)
	for method, sum := range sums {
		hashes[method.String()] = slices.Clone(sum[:])
	}
	return hashes
}

func (r *recalled) record() *recalledRecord {
	if r == nil {
		return nil
	}
	return &recalledRecord{Lists: hashesOf(r.lists), result: r.result}
}

// record is the session as it outlives the process.
func (s *session) record(used time.Time) record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return record{
		Upstream: s.f.opts.Upstream, ID: s.id, Owner: s.owner[:], Facts: s.facts[:], Version: s.version,
		Level: s.level, URIs: slices.Clone(s.uris), Initialized: s.initialized, State: s.state, Notice: s.notice,
		Used: used.Unix(), Recalled: s.recalled.record(), Unconfirmed: s.confirmation.record(), initialize: s.initialize,
	}
}

// load reads the file. What cannot be used is dropped, and said.
func (st *Store) load() []record {
	if st.opts.Path == "" {
		return nil
	}
	content, err := safefile.ReadPrivate(st.opts.Path, maxFile) // who can write it could have a session of anybody's
	var all []record
	if content != nil && err == nil {
		all, err = decode(content)
	}
	if err != nil {
		st.opts.Log.Warn("the file of stdio sessions cannot be used: they are forgotten", "file", st.opts.Path, "error", err)
		return nil
	}
	return all
}

func decode(content []byte) ([]record, error) {
	var f file
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, err
	}
	if f.Format != fileFormat {
		return nil, fmt.Errorf("it has format %d, not %d", f.Format, fileFormat)
	}
	var all []record
	oldest := time.Now().Add(-maxIdle).Unix()
	for _, r := range f.Sessions {
		if r.Form < 0 || r.Form >= len(f.Forms) {
			return nil, errors.New("a session without its initialize")
		}
		r.initialize = f.Forms[r.Form]
		if own := r.Recalled; own != nil {
			if own.Result < 0 || own.Result >= len(f.Results) {
				return nil, errors.New("a session without the result that it was given")
			}
			own.result = f.Results[own.Result]
		}
		var m mcp.Message
		if r.Used >= oldest && len(all) < maxSessions && mcp.Scan(r.initialize, &m) == nil && m.Method == mcp.MethodInitialize {
			all = append(all, r)
		}
	}
	return all, nil
}

// content makes the content of the file.
func (st *Store) content() []byte {
	st.mu.Lock()
	type used struct {
		s  *session
		at time.Time
	}
	all := make([]used, 0, len(st.byID))
	for e := st.order.Front(); e != nil; e = e.Next() {
		s, _ := e.Value.(*session)
		s.saved = s.used
		all = append(all, used{s, s.used})
	}
	oldest := time.Now().Add(-maxIdle).Unix()
	st.kept = slices.DeleteFunc(st.kept, func(r record) bool { return r.Used < oldest })
	records := slices.Clone(st.kept)
	st.mu.Unlock()
	for _, u := range all {
		if u.s.initialize != nil {
			records = append(records, u.s.record(u.at))
		}
	}
	return encode(records, maxFile)
}

// Drain writes the file now, for a daemon that takes the place of this one while calls end here.
func (st *Store) Drain() { st.saver.Save() }

// encode makes the content of the file, of at most so many bytes: what was used longest ago is left out.
func encode(records []record, most int) []byte {
	f, room := file{Format: fileFormat}, most-(1<<10)
	forms, results := make(map[string]int), make(map[string]int)
	slices.SortStableFunc(records, func(a, b record) int { return int(b.Used - a.Used) })
	for _, r := range records[:min(len(records), maxSessions)] {
		_, known := forms[string(r.initialize)]
		room -= r.bytes()
		if !known {
			room -= inFile(len(r.initialize))
		}
		if r.Recalled != nil {
			if _, known := results[string(r.Recalled.result)]; !known {
				room -= inFile(len(r.Recalled.result))
			}
		}
		if room < 0 {
			break
		}
		r.Form = place(&f.Forms, forms, r.initialize)
		if r.Recalled != nil {
			r.Recalled.Result = place(&f.Results, results, r.Recalled.result)
		}
		f.Sessions = append(f.Sessions, r)
	}
	content, err := json.Marshal(f)
	if err != nil {
		panic("streamable: sessions cannot be encoded (this is a bug): " + err.Error())
	}
	return content
}

// place returns where a value stands in a list, to which it is added if it is new.
func place(list *[][]byte, places map[string]int, value []byte) int {
	n, known := places[string(value)]
	if !known {
		n = len(*list)
		places[string(value)] = n
		*list = append(*list, value)
	}
	return n
}

// bytes is what a record without its initialize takes in the file, at most.
func (r *record) bytes() int {
	n := 1<<10 + 6*len(r.Upstream) + inFile(len(r.Level))
	for _, uri := range r.URIs {
		n += inFile(len(uri))
	}
	if r.Recalled != nil || r.Unconfirmed != nil { // names and hashes
		n += 1 << 10
	}
	return n
}

// inFile is what so many bytes take as base64 in JSON.
func inFile(n int) int { return base64.StdEncoding.EncodedLen(n) + len(`"",`) }

// Close writes the file a last time.
func (st *Store) Close() {
	st.mu.Lock()
	st.closed = true
	if st.sweeper != nil {
		st.sweeper.Stop()
	}
	st.mu.Unlock()
	st.saver.Close()
}
