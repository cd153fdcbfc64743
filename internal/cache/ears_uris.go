package cache

import (
	"context"
	"slices"
	"sync"
)

const maxEarURIs = 256 // of one partition

// earURISet holds the uris that were stored most recently, at most maxEarURIs. It has one reader.
type earURISet struct {
	changed chan struct{} // one is in it if there are other uris than wait returned

	mu  sync.Mutex // guards the following
	now uint64
	by  map[string]uint64 // when each was stored last
}

func newEarURISet() *earURISet {
	return &earURISet{changed: make(chan struct{}, 1), by: make(map[string]uint64)}
}

// add notes that an answer about the uri was stored.
func (s *earURISet) add(uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	_, old := s.by[uri]
	s.by[uri] = s.now
	if old {
		return
	}
	if len(s.by) > maxEarURIs {
		s.dropOldestLocked()
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *earURISet) dropOldestLocked() {
	oldest, at := "", s.now+1
	for uri, when := range s.by {
		if when < at {
			oldest, at = uri, when
		}
	}
	delete(s.by, oldest)
}

// wait returns the uris in their order as soon as there are some, nil when ctx has ended.
func (s *earURISet) wait(ctx context.Context) []string {
	for {
		if uris := s.take(); len(uris) > 0 {
			return uris
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// take returns the uris. After it nothing has changed.
func (s *earURISet) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.changed:
	default:
	}
	uris := make([]string, 0, len(s.by))
	for uri := range s.by {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	return uris
}
