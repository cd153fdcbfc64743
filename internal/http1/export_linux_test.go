package http1

// LateEvent has the watcher look up an event of a connection that is closed, whose place another one has by now. It reports whether that
// is taken for the other's.
func LateEvent() bool {
	w := &watcher{}
	first, second := &serverConn{}, &serverConn{}
	number, use := w.take(first)
	w.remove(first)
	again, _ := w.take(second)
	return again != number || w.at(number, use) != nil || w.at(number, use+1) != second
}
