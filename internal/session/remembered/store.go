package remembered

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/safefile"
)

const (
	fileFormat = 1
	maxFile    = 24 << 20 // bytes: all that is kept, as base64, and what belongs to it
)

// StoreOptions are those of a Store.
type StoreOptions struct {
	Path  string       // of the file that outlives the daemon; "": nothing does
	Waits bool         // another daemon has the file: it is read, and not written before Join
	Log   *slog.Logger // nil: silent
}

// Store has what is remembered of all servers. Make it with NewStore.
type Store struct {
	opts  StoreOptions
	saver *safefile.Saver

	mu      sync.Mutex // guards the following
	servers map[[32]byte]*server
	touched map[[32]byte]bool // since the file was read
}

// NewStore makes a Store with what the file has. A file that cannot be used is said in the log, and begun anew. The Store is to be closed.
func NewStore(o StoreOptions) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	st := &Store{opts: o, touched: make(map[[32]byte]bool)}
	st.saver = safefile.NewSaver(o.Path, o.Waits, st.encode, func(err error) {
		o.Log.Warn("the file of remembered handshakes could not be written", "file", o.Path, "error", err)
	})
	st.servers = st.load()
	st.trimLocked()
	return st
}

// Join takes the file from a daemon that has ended. What this one has learned meanwhile stays.
func (st *Store) Join() {
	all := st.load()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.saver.Join()
	for key, s := range all {
		if !st.touched[key] {
			st.servers[key] = s
		}
	}
	st.trimLocked()
	st.saver.Changed()
}

// Drain writes the file now, for a daemon that takes the place of this one while calls end here.
func (st *Store) Drain() { st.saver.Save() }

// Close writes the file a last time.
func (st *Store) Close() { st.saver.Close() }

// formLocked returns what is known of a form of a server, made if it is new. With another on disk all else is forgotten.
func (st *Store) formLocked(key, onDisk [32]byte, f Form) *form {
	st.touched[key] = true
	s := st.servers[key]
	if s == nil || s.onDisk != onDisk {
		s = &server{onDisk: onDisk, forms: make(map[Form]*form)}
		st.servers[key] = s
	}
	if s.failed {
		s.failed = false
		st.saver.Changed()
	}
	one := s.forms[f]
	if one == nil {
		one = &form{}
		s.forms[f] = one
	}
	one.used = time.Now()
	return one
}

// trimLocked keeps the bounds: what was used longest ago goes.
func (st *Store) trimLocked() {
	for len(st.servers) > maxServers {
		var key [32]byte
		var least *server
		for k, s := range st.servers {
			if least == nil || s.used().Before(least.used()) {
				key, least = k, s
			}
		}
		delete(st.servers, key)
	}
	bytes := 0
	for _, s := range st.servers {
		for len(s.forms) > maxForms {
			f, _ := s.oldest()
			delete(s.forms, f)
		}
		for _, one := range s.forms {
			bytes += one.bytes()
		}
	}
	for bytes > maxBytes {
		bytes -= st.dropOldestLocked()
	}
}

// dropOldestLocked forgets the form that was used longest ago, of all servers, and returns how many bytes it had.
func (st *Store) dropOldestLocked() int {
	var of *server
	var key Form
	var oldest *form
	for _, s := range st.servers {
		if f, one := s.oldest(); one != nil && (oldest == nil || one.used.Before(oldest.used)) {
			of, key, oldest = s, f, one
		}
	}
	delete(of.forms, key)
	return oldest.bytes()
}

// oldest returns the form that was used longest ago, nil where there is none.
func (s *server) oldest() (f Form, oldest *form) {
	for key, one := range s.forms {
		if oldest == nil || one.used.Before(oldest.used) {
			f, oldest = key, one
		}
	}
	return f, oldest
}

// used is when a form was used last; zero where there is none.
func (s *server) used() (last time.Time) {
	for _, one := range s.forms {
		if one.used.After(last) {
			last = one.used
		}
	}
	return last
}

func (one *form) bytes() int {
	n := len(one.initialize.result)
	for _, k := range one.lists {
		n += len(k.result)
	}
	return n
}

// The file: identities and what is on disk as hashes.
type (
	file struct {
		Format  int
		Servers []fileServer
	}
	fileServer struct {
		Key, OnDisk []byte
		Failed      bool `json:",omitempty"`
		Forms       []fileForm
	}
	fileForm struct {
		Key        []byte
		Used       int64 // Unix seconds
		Initialize fileKnown
		Lists      map[string]fileKnown `json:",omitempty"` // by method
	}
	fileKnown struct {
		Result    []byte
		Processes int
		Confirmed int64 `json:",omitempty"` // Unix seconds
	}
)

// encode makes the content of the file.
func (st *Store) encode() []byte {
	f := file{Format: fileFormat}
	st.mu.Lock()
	for key, s := range st.servers {
		f.Servers = append(f.Servers, s.encode(key))
	}
	st.mu.Unlock()
	content, err := json.Marshal(f)
	if err != nil {
		panic("remembered: the file cannot be encoded (this is a bug): " + err.Error())
	}
	return content
}

func (s *server) encode(key [32]byte) fileServer {
	f := fileServer{Key: key[:], OnDisk: s.onDisk[:], Failed: s.failed}
	for key, one := range s.forms {
		ff := fileForm{Key: key[:], Used: one.used.Unix(), Initialize: one.initialize.encode()}
		for method, k := range one.lists {
			if ff.Lists == nil {
				ff.Lists = make(map[string]fileKnown)
			}
			ff.Lists[method.String()] = k.encode()
		}
		f.Forms = append(f.Forms, ff)
	}
	return f
}

func (k *known) encode() fileKnown {
	f := fileKnown{Result: k.result, Processes: k.processes}
	if !k.confirmed.IsZero() {
		f.Confirmed = k.confirmed.Unix()
	}
	return f
}

// load reads the file. What cannot be used is dropped, and said.
func (st *Store) load() map[[32]byte]*server {
	none := make(map[[32]byte]*server)
	if st.opts.Path == "" {
		return none
	}
	content, err := safefile.ReadPrivate(st.opts.Path, maxFile) // who can write it could give any server's tools to agents
	all := none
	if content != nil && err == nil {
		all, err = decode(content)
	}
	if err != nil {
		st.opts.Log.Warn("the file of remembered handshakes cannot be used: they are forgotten", "file", st.opts.Path, "error", err)
		return none
	}
	return all
}

func decode(content []byte) (map[[32]byte]*server, error) {
	var f file
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, err
	}
	if f.Format != fileFormat {
		return nil, fmt.Errorf("it has format %d, not %d", f.Format, fileFormat)
	}
	all := make(map[[32]byte]*server)
	for _, fs := range f.Servers[:min(len(f.Servers), maxServers)] {
		if len(fs.Key) != sha256.Size || len(fs.OnDisk) != sha256.Size {
			return nil, errors.New("a server without a name")
		}
		s := &server{onDisk: [32]byte(fs.OnDisk), failed: fs.Failed, forms: make(map[Form]*form)}
		slices.SortFunc(fs.Forms, func(a, b fileForm) int { return cmp.Compare(b.Used, a.Used) })
		for _, ff := range fs.Forms[:min(len(fs.Forms), maxForms)] {
			one, err := ff.decode()
			if err != nil {
				return nil, err
			}
			s.forms[Form(ff.Key)] = one
		}
		all[[32]byte(fs.Key)] = s
	}
	return all, nil
}

func (f *fileForm) decode() (*form, error) {
	if len(f.Key) != sha256.Size {
		return nil, errors.New("a form without a name")
	}
	one := &form{used: time.Unix(min(f.Used, time.Now().Unix()), 0), lists: make(map[mcp.Method]*known)}
	initialize, err := f.Initialize.decode()
	if err != nil {
		return nil, err
	}
	one.initialize = *initialize
	for name := range maps.Keys(f.Lists) {
		method := mcp.MethodOf([]byte(name))
		if !slices.Contains(Lists, method) {
			return nil, fmt.Errorf("%q is no list", name)
		}
		list := f.Lists[name]
		if one.lists[method], err = list.decode(); err != nil {
			return nil, err
		}
		if !isWhole(list.Result) {
			return nil, errors.New("a list that is not whole")
		}
	}
	return one, nil
}

// decode reads an answer, which has to be the result of a valid response.
func (f *fileKnown) decode() (*known, error) {
	k := &known{processes: min(f.Processes, processes)}
	if k.result = resultOf(slices.Concat([]byte(`{"jsonrpc":"2.0","id":0,"result":`), f.Result, []byte("}"))); k.result == nil || len(k.result) != len(f.Result) {
		return nil, errors.New("an answer that is none")
	}
	if f.Processes < 1 {
		return nil, errors.New("an answer of nobody")
	}
	if f.Confirmed > 0 {
		k.confirmed = time.Unix(f.Confirmed, 0)
	}
	return k, nil
}
