package peer

import (
	"net"
	"testing"
)

// TestOwnerElsewhere holds that an address which is not on loopback has no user, whatever the kernel knows of its port.
func TestOwnerElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	local, remote := l.Addr().(*net.TCPAddr), client.LocalAddr().(*net.TCPAddr)
	if _, err := ownerAt(local, remote); err != nil {
		t.Fatal(err)
	}
	for _, elsewhere := range []string{"192.0.2.1", "2001:db8::1"} {
		far := &net.TCPAddr{IP: net.ParseIP(elsewhere), Port: remote.Port}
		if uid, err := ownerAt(local, far); err == nil {
			t.Errorf("of %s: user %d", far, uid)
		}
		if uid, err := ownerAt(far, remote); err == nil {
			t.Errorf("at %s: user %d", far, uid)
		}
	}
}
