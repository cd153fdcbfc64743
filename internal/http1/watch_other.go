//go:build !linux

package http1

import "errors"

// watcher is there on Linux alone, and so is the server's own loop: elsewhere net/http serves, which sees by reading that an agent
// leaves.
type watcher struct{}

func newWatcher() (*watcher, error) { return nil, errors.ErrUnsupported }

func (*watcher) add(*serverConn) error { return errors.ErrUnsupported }

func (*watcher) remove(*serverConn) {}

func (*watcher) close() {}
