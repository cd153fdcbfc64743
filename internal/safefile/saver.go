package safefile

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// saveAfter is how long after a change a file is written: it is at most a second old.
const saveAfter = 500 * time.Millisecond

// Saver writes a file again after what is in it has changed. All its methods may be called at the same time, and while a lock is held
// that Content takes, Save and Close excepted.
type Saver struct {
	path    string
	content func() []byte
	failed  func(error)

	mu      sync.Mutex // guards the following
	timer   *time.Timer
	changed bool
	closed  bool
	waits   bool // for Join

	saving sync.Mutex // held while the file is written
}

// NewSaver returns the Saver of a file: content makes what is to be in it, and failed is told why it could not be written. It waits
// for Join before it writes the first time, if so. Without a path nothing is written.
func NewSaver(path string, waits bool, content func() []byte, failed func(error)) *Saver {
	return &Saver{path: path, waits: waits, content: content, failed: failed}
}

// Changed has the file written soon.
func (s *Saver) Changed() {
	if s.path == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = true
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(saveAfter, s.Save)
	}
}

// Join lets the file be written: nobody else has it any more.
func (s *Saver) Join() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = false
}

// Save writes the file now, if anything has changed.
func (s *Saver) Save() {
	s.saving.Lock()
	defer s.saving.Unlock()
	if !s.begin() {
		return
	}
	if err := Create(s.path, s.content(), os.Rename); err != nil {
		s.failed(err)
	}
}

// begin reports whether the file is to be written now. What changes from here on is written another time.
func (s *Saver) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if !s.changed || s.waits {
		return false
	}
	s.changed = false
	return true
}

// Close writes the file a last time, if anything has changed.
func (s *Saver) Close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.Save()
}

// ReadPrivate is Read for a file that has to be this user's alone; nil where there is none.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	content, info, err := Read(path, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return content, Private(info)
}
