package sqlite

import (
	"context"
	"time"
)

// reopenPause lies between two attempts to open the file.
const reopenPause = time.Second

// keepOpen has a usable file at hand until ctx ends. f is the first one; where it is nil, err says why.
func (t *adapter) keepOpen(ctx context.Context, f *file, err error) {
	for logged := ""; ; {
		opened := time.Now()
		if f != nil {
			select {
			case <-ctx.Done():
				return
			case err = <-f.broken:
			}
			t.use(nil, err)
			t.dispose(f, err)
		} else if err.Error() != logged {
			logged = err.Error()
			t.opt.Log.Warn("the cache's file cannot be used for now", "path", t.opt.Path, "error", err)
		}
		if f == nil || time.Since(opened) < reopenPause {
			select {
			case <-ctx.Done():
				return
			case <-time.After(reopenPause):
			}
		}
		if f, err = t.open(); err == nil {
			logged = ""
			t.opt.Log.Info("the cache's file is in use", "path", t.opt.Path)
		}
		t.use(f, err)
	}
}

// dispose closes a broken file and, where it is of no more use, sets it aside.
func (t *adapter) dispose(f *file, why error) {
	t.opt.Log.Warn("the cache's file is opened anew", "path", t.opt.Path, "error", why)
	_ = f.close() // what fails here has failed before
	if damageOf(why) == corrupt {
		if err := t.setAside(".corrupt", why); err != nil {
			t.opt.Log.Error("the cache's file cannot be set aside", "path", t.opt.Path, "error", err)
		}
	}
}
