package upstream

import (
	"net"
	"time"
)

// Counted wraps a connection as the upstream's own dialing does.
func (u *Upstream) Counted(c net.Conn) net.Conn { return u.pool.opened(c, nil) }

// Count does so with a pool of its own: the upstream counts it nowhere.
func Count(c net.Conn) net.Conn { return newPool(&PoolOptions{MaxAge: time.Hour}).opened(c, nil) }
