package upstream

import "net"

// Counted wraps a connection as the upstream's own dialing does.
func (u *Upstream) Counted(c net.Conn) net.Conn { return u.pool.opened(c) }

// Count does so with a pool of its own: the upstream counts it nowhere.
func Count(c net.Conn) net.Conn { return newPool(1).opened(c) }
