package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// The daemon and the guard are the same binary, so what they say to each other has no version: messages of one size over a
// SOCK_SEQPACKET pair, descriptors beside them. What a start needs is in a memfd.

// What a Message is about.
const (
	OpStart   = 1 + iota // to the guard, with descriptors: a Launch in a memfd, stdin, stdout, stderr, perhaps a cgroup
	OpStop               // to the guard: stdin is closed
	OpStarted            // from the guard: Value is the pid, with the pidfd where the system has them
	OpFailed             // from the guard: Value is the errno
	OpExited             // from the guard: Value is the exit status, or -1, and Signal
	OpGone               // from the guard: nothing is left of the start
	OpNotRun             // from the guard, for OpExited: it ended as ScopeProgram, which had not become another program
)

// Message is all that is ever sent.
type Message struct {
	Op     uint32
	Value  int32
	ID     uint64 // of the start
	Signal int32
}

// Bounds of what is sent.
const (
	MessageSize    = 20      // bytes of a Message
	MaxDescriptors = 5       // beside one
	MaxLaunch      = 4 << 20 // bytes of a Launch
)

// Encode returns the message as it is sent.
func (m Message) Encode() []byte {
	b := make([]byte, 0, MessageSize)
	b = binary.NativeEndian.AppendUint32(b, m.Op)
	b = binary.NativeEndian.AppendUint32(b, uint32(m.Value))
	b = binary.NativeEndian.AppendUint64(b, m.ID)
	return binary.NativeEndian.AppendUint32(b, uint32(m.Signal))
}

// DecodeMessage reads what Encode wrote. The error says that it is of another size.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) != MessageSize {
		return Message{}, errors.New("a message of another size")
	}
	return Message{
		Op: binary.NativeEndian.Uint32(b), Value: int32(binary.NativeEndian.Uint32(b[4:])),
		ID: binary.NativeEndian.Uint64(b[8:]), Signal: int32(binary.NativeEndian.Uint32(b[16:])),
	}, nil
}

// Descriptors returns what came beside a message.
func Descriptors(oob []byte) (all []int) {
	controls, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range controls {
		fds, err := syscall.ParseUnixRights(&controls[i])
		if err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

// Arguments are the guard's, its name first. mark is its own random number; eof, term and last are how long an end takes: from end of
// file on stdin to SIGTERM, from that to SIGKILL, and the same where the daemon is gone.
func Arguments(mark string, eof, term, last time.Duration) []string {
	return []string{name, mark, eof.String(), term.String(), last.String()}
}

// Launch is what the guard needs to know of a start. No word has a NUL.
type Launch struct {
	Path, Dir string
	Argv, Env []string
}

// Encode returns it as it stands in the memfd.
func (l Launch) Encode() []byte {
	b := append([]byte(l.Path), 0)
	b = append(append(b, l.Dir...), 0)
	b = strconv.AppendInt(b, int64(len(l.Argv)), 10)
	for _, word := range slices.Concat(l.Argv, l.Env) {
		b = append(append(b, 0), word...)
	}
	return b
}

// readLaunch reads what Encode wrote.
func readLaunch(fd int) (Launch, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return Launch{}, err
	}
	if stat.Size > MaxLaunch {
		return Launch{}, syscall.E2BIG
	}
	b := make([]byte, stat.Size)
	if n, err := syscall.Pread(fd, b, 0); err != nil || n != len(b) {
		return Launch{}, errors.Join(io.ErrUnexpectedEOF, err)
	}
	words := make([]string, 0, bytes.Count(b, []byte{0})+1)
	for word := range bytes.SplitSeq(b, []byte{0}) {
		words = append(words, string(word))
	}
	if len(words) < 3 {
		return Launch{}, io.ErrUnexpectedEOF
	}
	argc, err := strconv.Atoi(words[2])
	if err != nil || argc < 1 || argc > len(words)-3 {
		return Launch{}, io.ErrUnexpectedEOF
	}
	return Launch{Path: words[0], Dir: words[1], Argv: words[3 : 3+argc], Env: words[3+argc:]}, nil
}
