package tier

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrOtherServer means that a connection of a shared tier was, or is, at another server than its link: what it reads may
// have been invalidated without a message on the link.
var ErrOtherServer = errors.New("the connection is at another server than the one whose invalidations are received")

// OneServer holds the connections of a shared tier to the server of its link, the connection on which other daemons'
// invalidations are received: behind one address there may be several servers, one after the other. A server is known by an identity
// of its process, which each connection asks for once, when it is made; "" is one that does not say, and passes. The zero
// value is a tier without a link. It is safe for concurrent use.
type OneServer struct {
	epoch atomic.Uint64 // goes up with a link at another server: connections from before are not used any more
	up    atomic.Bool   // the link stands; set under mu

	mu  sync.Mutex // guards the following
	id  string     // of the link's server; "" where there is no link
	cut func()     // ends the link; nil where there is none, or it has been cut
	at  string     // the server of the connections that there are
	two bool       // some of them are at another
}

// Epoch is what a connection remembers from before it was dialled: it is good while Epoch is the same.
func (o *OneServer) Epoch() uint64 { return o.epoch.Load() }

// Linked notes a new link, which cut ends, and reports whether it is at another server than some connection was since the last
// link: what was told there while no link stood is not known here. It is called before anybody sees the link stand.
func (o *OneServer) Linked(id string, cut func()) (moved bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if moved = o.at != "" && id != o.at || o.two; moved {
		o.epoch.Add(1)
	}
	o.id, o.cut, o.at, o.two = id, cut, id, false
	return moved
}

// Stand has the link stand, unless it has been cut since it was noted: a connection at another server may come between.
func (o *OneServer) Stand() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up.Store(o.cut != nil)
	return o.cut != nil
}

// Stands says whether the link stands at this moment.
func (o *OneServer) Stands() bool { return o.up.Load() }

// Unlinked notes that the link has ended.
func (o *OneServer) Unlinked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unlinkLocked()
}

func (o *OneServer) unlinkLocked() {
	o.up.Store(false)
	o.id, o.cut = "", nil
}

// Admit says whether a new connection may be used. Where its server is not the link's, the link is cut, and both are to be
// made anew.
func (o *OneServer) Admit(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.id == "" && o.at == "":
		o.at = id
		return nil
	case o.id == "":
		o.two = o.two || id != o.at
		return nil
	case id == "" || id == o.id:
		return nil
	}
	cut := o.cut
	o.unlinkLocked()
	cut()
	return ErrOtherServer
}
