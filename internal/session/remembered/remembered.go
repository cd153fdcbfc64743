// Package remembered keeps what processes of stdio servers have answered to an initialize and for their lists, so that a session which
// asks no more than that needs no process.
//
// It promises that an answer is given only
//   - to the same question: of the same server (command, arguments, directory, environment), with the same on disk, to an initialize with
//     the same params (a Form), so never a version or capability that was not asked for;
//   - where two processes gave it, byte for byte but for `_meta`, and one has within a week;
//   - where the last start of the server did not fail, its command is there, and its processes do not end by themselves.
//
// It is no cache: no answer has a time to live by the server's word, and who gets one compares it with its own process's when it has one.
// What is kept is bounded, and outlives the daemon in a file. The comparison, and what follows from it, is the caller's
// (package session/streamable).
package remembered

import (
	"bytes"
	"crypto/sha256"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"fluentd-perf/internal/mcp"
)

const (
	maxServers  = 256
	maxForms    = 16                 // of a server
	maxResult   = 1 << 20            // bytes of one answer
	maxBytes    = 16 << 20           // of all answers
	processes   = 2                  // that have to give the same answer
	believedFor = 7 * 24 * time.Hour // after the last confirmation
)

// Form is an initialize without what changes nothing: a hash of its canonical params.
type Form [32]byte

// FormOf returns the form of the params of an initialize, false where they have none: names that are there twice, or what is no Unicode.
func FormOf(params []byte) (Form, bool) {
	if len(params) == 0 || params[0] != '{' {
		return Form{}, false
	}
	v := jsontext.Value(bytes.Clone(params))
	// Numbers stay as written: 2^53+1 is not 2^53.
	if err := v.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return Form{}, false
	}
	return sha256.Sum256(v), true
}

// Lists are the methods whose answers are remembered.
var Lists = []mcp.Method{mcp.MethodToolsList, mcp.MethodPromptsList, mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList}

// Options say of which server a Memory is. Identity is required.
type Options struct {
	Identity string        // of the server: another command, directory or environment is another one
	OnDisk   func() string // what its command is on disk now; "": it is not there. nil: it never changes
	Stable   func() bool   // whether its processes stay; nil: they do
}

// Memory is what is remembered of one server. Several may be of the same. It is safe for concurrent use.
type Memory struct {
	st   *Store
	opts Options
	key  [32]byte
}

// Of returns what is remembered of a server.
func (st *Store) Of(o Options) *Memory {
	if o.OnDisk == nil {
		o.OnDisk = func() string { return "-" }
	}
	if o.Stable == nil {
		o.Stable = func() bool { return true }
	}
	return &Memory{st: st, opts: o, key: sha256.Sum256([]byte(o.Identity))}
}

// Initialize returns the result of an initialize, raw; nil where none is believed.
func (m *Memory) Initialize(f Form) []byte {
	return m.recall(f, func(one *form) *known { return &one.initialize })
}

// List returns the result of a list, raw, which is whole on one page; nil where none is believed.
func (m *Memory) List(f Form, method mcp.Method) []byte {
	return m.recall(f, func(one *form) *known { return one.lists[method] })
}

func (m *Memory) recall(f Form, of func(*form) *known) []byte {
	onDisk := m.opts.OnDisk()
	if onDisk == "" || !m.opts.Stable() {
		return nil
	}
	st := m.st
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.servers[m.key]
	if s == nil || s.failed || s.onDisk != sha256.Sum256([]byte(onDisk)) {
		return nil
	}
	one := s.forms[f]
	if one == nil {
		return nil
	}
	now := time.Now()
	k := of(one)
	if k == nil || !k.isBelieved(now) {
		return nil
	}
	if now.Sub(one.used) > time.Hour { // in the file it need not be exact
		st.saver.Changed()
	}
	one.used = now
	return k.result
}

// Answered takes what a process answered to an initialize, the whole response; onDisk is what was on disk before its start. It is called
// once for each process.
func (m *Memory) Answered(f Form, onDisk string, answer []byte) {
	if onDisk != m.opts.OnDisk() { // it was changed while the process started
		return
	}
	result := resultOf(answer)
	m.st.mu.Lock()
	defer m.st.mu.Unlock()
	if result == nil { // such clients are refused: it says nothing of others
		if s := m.changesLocked(); s != nil && s.forms[f] != nil {
			delete(s.forms, f)
			m.st.saver.Changed()
		}
		return
	}
	one := m.st.formLocked(m.key, sha256.Sum256([]byte(onDisk)), f)
	switch one.initialize.observe(0, result) {
	case replaced:
		one.lists = nil // of another server
		m.st.saver.Changed()
	case confirmed:
		m.st.saver.Changed()
	}
	m.st.trimLocked()
}

// Listed takes what a process gave for a list, the raw result. process is a number of its own; onDisk is as for Answered. A process that
// nobody has done anything with but to ask for lists is asked; it may be asked again.
func (m *Memory) Listed(f Form, onDisk string, process uint64, method mcp.Method, result []byte) {
	m.st.mu.Lock()
	defer m.st.mu.Unlock()
	s := m.changesLocked()
	if s == nil || s.onDisk != sha256.Sum256([]byte(onDisk)) || s.forms[f] == nil {
		return // a process of before
	}
	one := s.forms[f]
	if len(result) > maxResult || !isWhole(result) {
		if one.lists[method] != nil {
			delete(one.lists, method)
			m.st.saver.Changed()
		}
		return
	}
	k := one.lists[method]
	if k == nil {
		k = &known{}
		if one.lists == nil {
			one.lists = make(map[mcp.Method]*known)
		}
		one.lists[method] = k
	}
	if k.observe(process, result) != nothingNew {
		m.st.saver.Changed()
	}
	m.st.trimLocked()
}

// Withdraw forgets lists of the server, for all forms.
func (m *Memory) Withdraw(methods ...mcp.Method) {
	m.withdraw(func(Form) bool { return true }, methods)
}

// WithdrawOf forgets lists of the server for one form.
func (m *Memory) WithdrawOf(f Form, methods ...mcp.Method) {
	m.withdraw(func(other Form) bool { return other == f }, methods)
}

func (m *Memory) withdraw(of func(Form) bool, methods []mcp.Method) {
	m.st.mu.Lock()
	defer m.st.mu.Unlock()
	s := m.changesLocked()
	if s == nil {
		return
	}
	for f, one := range s.forms {
		if !of(f) {
			continue
		}
		for _, method := range methods {
			if one.lists[method] != nil {
				delete(one.lists, method)
				m.st.saver.Changed()
			}
		}
	}
}

// Failed takes notice that a start of the server has failed. Until another succeeds nothing is believed.
func (m *Memory) Failed() {
	m.st.mu.Lock()
	defer m.st.mu.Unlock()
	if s := m.changesLocked(); s != nil && !s.failed {
		s.failed = true
		m.st.saver.Changed()
	}
}

// changesLocked returns what is known of the server and may change now, nil where nothing is.
func (m *Memory) changesLocked() *server {
	m.st.touched[m.key] = true
	return m.st.servers[m.key]
}

// server is what is known of one. Guarded by Store.mu.
type server struct {
	onDisk [32]byte // a hash
	failed bool     // the last start
	forms  map[Form]*form
}

type form struct {
	used       time.Time
	initialize known
	lists      map[mcp.Method]*known
}

// known is one answer.
type known struct {
	result    []byte    // raw, not changed; without its `_meta` where processes gave different ones
	processes int       // that gave it in a row, up to the number that is needed
	last      uint64    // the last of them; 0: that is not known, or each answers once
	confirmed time.Time // when the last one gave it that was not the first
}

func (k *known) isBelieved(now time.Time) bool {
	age := now.Sub(k.confirmed)
	return k.processes >= processes && age < believedFor && age > -time.Hour // a clock may be set back a little
}

// news is what an observation has changed.
type news uint8

const (
	nothingNew news = iota
	confirmed
	replaced
)

// observe compares an answer with the one that is known. Of one process a later answer that is the same says nothing, but for process 0,
// which is another one each time.
func (k *known) observe(process uint64, result []byte) news {
	bare := withoutMeta(result)
	if k.result == nil || !bytes.Equal(withoutMeta(k.result), bare) {
		*k = known{result: bytes.Clone(result), processes: 1, last: process}
		return replaced
	}
	if !bytes.Equal(k.result, result) {
		k.result = bare
	}
	isOther := process == 0 || process != k.last
	k.last = process
	if isOther && k.processes < processes {
		k.processes++
		k.confirmed = time.Now()
		return confirmed
	}
	if k.processes < processes {
		return nothingNew
	}
	before := k.confirmed
	if k.confirmed = time.Now(); k.confirmed.Sub(before) < time.Hour { // in the file it need not be exact
		return nothingNew
	}
	return confirmed
}

// Sum is a hash of a result without its `_meta`, to compare it by.
func Sum(result []byte) [32]byte { return sha256.Sum256(withoutMeta(result)) }

// withoutMeta returns an object without its member `_meta`. All else stays byte for byte, but what is between the members.
func withoutMeta(object []byte) []byte {
	if !bytes.Contains(object, []byte(`"_meta"`)) {
		return object
	}
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if begin, err := d.ReadToken(); err != nil || begin.Kind() != '{' {
		return object
	}
	var members [][]byte
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return object
		}
		name = bytes.Clone(name)
		value, err := d.ReadValue()
		if err != nil {
			return object
		}
		if string(name) != `"_meta"` {
			members = append(members, append(append(name, ':'), value...))
		}
	}
	return append(append([]byte{'{'}, bytes.Join(members, []byte{','})...), '}')
}

// resultOf returns the result in a response that is one valid message, nil where there is none that can be remembered.
func resultOf(answer []byte) []byte {
	var m mcp.Message
	if mcp.Scan(answer, &m) != nil || m.Kind != mcp.KindResult || m.Loose || m.Ambiguous {
		return nil
	}
	result := m.Result.Of(answer)
	if len(result) > maxResult || result[0] != '{' {
		return nil
	}
	return result
}

// isWhole reports whether a list is an object, all on one page: cursors may be a process's own.
func isWhole(result []byte) bool {
	if len(result) == 0 || result[0] != '{' {
		return false
	}
	at, err := mcp.Member(result, "nextCursor")
	return err == nil && (!at.Present() || string(at.Of(result)) == "null")
}
