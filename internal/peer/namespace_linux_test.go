package peer_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/peer"
)

// acceptAs is set in the process that says who connects to it: the network and the address.
const acceptAs = "FLUENTD_PERF_TEST_ACCEPT"

// sayOwner listens, says where, and then who has connected.
func sayOwner(network, address string) {
	l, err := net.Listen(network, address)
	if err != nil {
		os.Exit(1)
	}
	if network == "unix" {
		_ = os.Chmod(address, 0o666)
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		os.Exit(1)
	}
	uid, err := peer.Owner(c)
	fmt.Println(uid, errors.Is(err, peer.ErrUnknown))
}

// TestOwnerOutsideTheNamespace has a user connect who has no number in the user namespace of the other side. The kernel gives every
// such user the same one there, which may be somebody's.
func TestOwnerOutsideTheNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", publicDir(t) + "/socket"}} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), acceptAs+"="+at[0]+" "+at[1])
		one := []syscall.SysProcIDMap{{Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Skip("no user namespaces here: ", err)
		}
		var address, uid, unknown string
		if _, err := fmt.Fscanln(out, &address); err != nil {
			t.Fatal(err)
		}
		connectAs(t, programForAll(t), at[0], address, 12345)
		if _, err := fmt.Fscanln(out, &uid, &unknown); err != nil || unknown != "true" {
			t.Errorf("%s: user %s is named, %v", at[0], strings.TrimSpace(uid), err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
