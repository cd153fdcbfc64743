package guard

import (
	"strconv"
	"syscall"
	"unsafe"
)

// The system calls that package syscall has no function for. Those of golang.org/x/sys/unix would do, and have the guard begin
// later: see init.

// Numbers and constants of Linux, the same on all architectures that the daemon is built for.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
	sysCloseRange      = 436

	closeRangeCloexec = 4
	prSetName         = 15
	prSetSubreaper    = 36

	pAll     = 0 // waitid(2)
	pPID     = 1
	wnowait  = 0x1000000
	wexited  = 4
	atFDCWD  = -100
	sigsLast = 64
)

// callError is nil where a system call has succeeded.
func callError(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func prctl(option int, argument uintptr) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, uintptr(option), argument, 0, 0, 0, 0)
	return callError(errno)
}

// setName names the process for ps and top.
func setName(name string) {
	text, err := syscall.BytePtrFromString(name)
	if err == nil {
		_ = prctl(prSetName, uintptr(unsafe.Pointer(text)))
	}
}

// closeOnExec keeps the descriptors from first on from the children.
func closeOnExec(first uint) error {
	_, _, errno := syscall.RawSyscall(sysCloseRange, uintptr(first), 1<<31-1, closeRangeCloexec)
	return callError(errno)
}

func pidfdOpen(pid int) (int, error) {
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	return int(fd), callError(errno)
}

func pidfdSendSignal(fd int, sig syscall.Signal) {
	_, _, _ = syscall.RawSyscall6(sysPidfdSendSignal, uintptr(fd), uintptr(sig), 0, 0, 0, 0)
}

// waited is what waitid(2) says of a child.
type waited struct {
	signo, errno, code int32
	_                  [is64bit]int32
	pid                int32
	uid                uint32
	status             int32
	_                  [128 - 4*(6+is64bit)]byte
}

const (
	is64bit        = ^uint(0) >> 63
	exitedNormally = 1 // CLD_EXITED
)

// waitID waits; the pid is 0 where nothing has happened and WNOHANG is among the options.
func waitID(kind, id, options int) (waited, error) {
	var child waited
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, uintptr(kind), uintptr(id), uintptr(unsafe.Pointer(&child)), uintptr(options), 0, 0)
		if errno != syscall.EINTR {
			return child, callError(errno)
		}
	}
}

// defaultSignals takes back what the process inherited as ignored and Go leaves so. The zero value of the kernel's struct
// sigaction is SIG_DFL.
func defaultSignals() {
	for sig := 1; sig <= sigsLast; sig++ {
		var action [8]uint64
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if ignored := errno == 0 && uint8(action[0]) == 1 && action[0]>>8 == 0; ignored {
			action = [8]uint64{}
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
		}
	}
}

// readProc reads the beginning of a file of a process in /proc. It allocates nothing.
func readProc(pid int, name string, buf []byte) (int, error) {
	fd, err := openProc(pid, name)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	return syscall.Read(fd, buf)
}

func openProc(pid int, name string) (int, error) {
	var room [40]byte
	path := append(room[:0], "/proc/"...)
	path = append(strconv.AppendInt(path, int64(pid), 10), '/')
	path = append(append(path, name...), 0)
	fd, _, errno := syscall.Syscall6(syscall.SYS_OPENAT, ^uintptr(-atFDCWD-1), uintptr(unsafe.Pointer(&path[0])),
		syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	return int(fd), callError(errno)
}
