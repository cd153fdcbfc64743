package sqldb

import "time"

// reopenPause lies between two attempts to open the file.
const reopenPause = time.Second

// keep has a usable file at hand until the tier is closed. f is the first one, or nil.
func (s *SQLite) keep(f *sqliteFile) {
	for {
		opened := time.Now()
		if f == nil {
			if f = s.reopen(); f == nil {
				return
			}
		}
		s.current.Store(f)
		b, ok := s.awaitBroken(f)
		if !ok {
			return
		}
		s.outage.set(b.err)
		s.current.Store(nil)
		s.dispose(b)
		f = nil
		if time.Since(opened) < reopenPause && !s.pause() {
			return
		}
	}
}

// awaitBroken waits until f is reported broken; false means that the tier is being closed.
func (s *SQLite) awaitBroken(f *sqliteFile) (brokenFile, bool) {
	for {
		select {
		case <-s.stop:
			return brokenFile{}, false
		case b := <-s.broken:
			if b.file == f {
				return b, true
			}
		}
	}
}

// dispose closes a broken file and, where it is of no more use, sets it aside.
func (s *SQLite) dispose(b brokenFile) {
	s.opt.Log.Warn("the cache's file is opened anew", "path", s.opt.Path, "error", b.err)
	_ = b.file.close() // what fails here has failed before
	if b.verdict == corrupt {
		if err := s.setAside(".corrupt", b.err); err != nil {
			s.opt.Log.Error("the cache's file cannot be set aside", "path", s.opt.Path, "error", err)
		}
	}
}

// reopen tries until it has a file; nil means that the tier is being closed.
func (s *SQLite) reopen() *sqliteFile {
	for said := ""; ; {
		f, err := s.open()
		if err == nil {
			s.opt.Log.Info("the cache's file is in use", "path", s.opt.Path)
			return f
		}
		s.outage.set(err)
		if err.Error() != said {
			said = err.Error()
			s.opt.Log.Warn("the cache's file cannot be used for now", "path", s.opt.Path, "error", err)
		}
		if !s.pause() {
			return nil
		}
	}
}

// pause waits; false means that the tier is being closed.
func (s *SQLite) pause() bool {
	timer := time.NewTimer(reopenPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}
