package upstream

import "net"

// Counted wraps a connection as the upstream's own dialing does.
func (u *Upstream) Counted(c net.Conn) net.Conn { return u.pool.opened(c) }
