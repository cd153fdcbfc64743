package peer

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func ownerUnix(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return cred.Uid, mapped(cred.Uid)
}

var errUnmapped = errors.New("the user may be one that has no number in this user namespace")

// mapped refuses the number that the kernel says for every user who has none in the daemon's user namespace: whoever it is must not pass
// for the daemon's own user or for one that is allowed, where that number is theirs too. In a namespace with all users it is a user's.
func mapped(uid uint32) error {
	if uid != overflowUser() {
		return nil
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || !slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"}) {
		return errUnmapped
	}
	return nil
}

// overflowUser is that number.
func overflowUser() uint32 {
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	uid, err2 := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || err2 != nil {
		return 65534
	}
	return uint32(uid)
}

var (
	errClosed = errors.New("nobody holds the socket any more")
	errOther  = errors.New("the kernel speaks of another socket")
)

// The layout of a question and of an answer about one socket (linux/inet_diag.h): a head of 8 or 4 bytes, then who the socket is,
// the same in both, then in an answer what is known of it.
const (
	idBytes     = 48      // two ports, two addresses of 16 bytes each, interface, cookie
	cookieAt    = 40      // in those
	requestHead = 8       // family, protocol, extensions, padding, states
	answerHead  = 4       // family, state, timer, retransmissions
	uidAt       = 12 + 52 // of an answer: behind expiry, both queues
	inodeAt     = uidAt + 4
	answerBytes = inodeAt + 4
)

// socketQuestion is the question about one socket as it goes to the kernel.
type socketQuestion []byte

func (q socketQuestion) Len() int          { return len(q) }
func (q socketQuestion) Serialize() []byte { return q }

// question asks who holds the socket at remote that is connected to local.
func question(local, remote *net.TCPAddr) socketQuestion {
	q := make(socketQuestion, requestHead+idBytes)
	q[0], q[1] = unix.AF_INET6, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(q[4:], 1<<32-1) // in any state
	id := q[requestHead:]
	binary.BigEndian.PutUint16(id, uint16(remote.Port))
	binary.BigEndian.PutUint16(id[2:], uint16(local.Port))
	from, to := remote.IP, local.IP
	if v4 := from.To4(); v4 != nil {
		q[0], from, to = unix.AF_INET, v4, to.To4()
	}
	copy(id[4:20], from)
	copy(id[20:36], to)
	binary.NativeEndian.PutUint64(id[cookieAt:], 1<<64-1) // no cookie
	return q
}

// ownerTCP asks for the one socket with these addresses and ports. (A list of sockets, which libraries ask for, is filtered by ports
// alone: that could be the socket of another user with other addresses.)
func ownerTCP(local, remote *net.TCPAddr) (uint32, error) {
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	request.AddData(question(local, remote))
	answers, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return 0, err
	}
	if len(answers) != 1 || len(answers[0]) < answerBytes || !isOf(answers[0], local, remote) {
		return 0, errOther
	}
	// A socket without an inode is one that was closed and only sends on what is left. The kernel says 0 for its owner, which would
	// be root: whoever connects, asks and closes at once must not pass for that.
	if binary.NativeEndian.Uint32(answers[0][inodeAt:]) == 0 {
		return 0, errClosed
	}
	uid := binary.NativeEndian.Uint32(answers[0][uidAt:])
	return uid, mapped(uid)
}

// isOf reports whether an answer is of the socket at remote that is connected to local. One that speaks IPv6 has the addresses of
// IPv4 as mapped ones.
func isOf(answer []byte, local, remote *net.TCPAddr) bool {
	length := net.IPv4len
	if answer[0] == unix.AF_INET6 {
		length = net.IPv6len
	}
	id := answer[answerHead:]
	return int(binary.BigEndian.Uint16(id)) == remote.Port && int(binary.BigEndian.Uint16(id[2:])) == local.Port &&
		remote.IP.Equal(id[4:4+length]) && local.IP.Equal(id[20:20+length])
}
