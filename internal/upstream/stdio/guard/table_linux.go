package guard

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"syscall"
)

// Entry is a line of the system's process table. A table of them is in the order of the pids.
type Entry struct {
	PID, Parent, Group, Session int
	State                       byte
	threads                     int
	size                        int64  // of its memory, bytes: 0 when it has given that back, which is before it is a zombie
	Ticks                       int64  // user and system time, its reaped children's too, in clock ticks
	Began                       uint64 // in ticks since boot: with the pid it names one process for ever
	Pages                       int64  // resident

	Owner uint64 // after Owners.Assign: the number of a start, or strays, or dying
	Owned bool   // after Owners.Assign: there is an owner

	mark   uint64 // the start that its environment names
	marked bool   // mark was read
}

// Zombie reports whether it has ended and is not reaped. The state is the first thread's: others may still end, and hold what
// they all have open.
func (e *Entry) Zombie() bool { return (e.State == 'Z' || e.State == 'X') && e.threads <= 1 }

// ProcessTable reads /proc into a table whose room is used again. A process that begins meanwhile may be missing.
func ProcessTable(table []Entry) ([]Entry, error) {
	dir, err := syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(dir)
	table = table[:0]
	var names [4 << 10]byte
	for {
		n, err := syscall.ReadDirent(dir, names[:])
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			break
		}
		table = readEntries(table, names[:n])
	}
	byPID := func(a, b Entry) int { return cmp.Compare(a.PID, b.PID) }
	if !slices.IsSortedFunc(table, byPID) { // which the kernel does
		slices.SortFunc(table, byPID)
	}
	return table, nil
}

// The offsets in the kernel's struct linux_dirent64.
const (
	direntLength = 16
	direntName   = 19
)

// readEntries reads the entries of the processes that a piece of the directory names.
func readEntries(table []Entry, names []byte) []Entry {
	for len(names) > direntName {
		length := min(int(binary.NativeEndian.Uint16(names[direntLength:])), len(names))
		if length <= direntName {
			return table
		}
		if pid := pidOf(names[direntName:length]); pid > 0 {
			if e, ok := ReadEntry(pid); ok {
				table = append(table, e)
			}
		}
		names = names[length:]
	}
	return table
}

// pidOf reads a name that is a number and ends with a NUL, 0 where it is none.
func pidOf(name []byte) (pid int) {
	for _, c := range name {
		switch {
		case c == 0:
			return pid
		case c < '0' || c > '9':
			return 0
		}
		pid = pid*10 + int(c-'0')
	}
	return 0
}

// ReadEntry reads one process's line; false where there is no such process any more.
func ReadEntry(pid int) (Entry, bool) {
	var buf [1024]byte
	n, err := readProc(pid, "stat", buf[:])
	if err != nil {
		return Entry{}, false
	}
	return parseStat(pid, buf[:max(n, 0)])
}

// isCalled reports whether that is the name of the program that a process runs, a zombie's too. It has 15 bytes at most.
func isCalled(pid int, name string) bool {
	var buf [64]byte
	n, err := readProc(pid, "comm", buf[:])
	return err == nil && n > 0 && string(buf[:n-1]) == name // a newline follows
}

// parseStat reads "pid (name) state parent group ...": the name may have blanks and parentheses. The numbers are those of
// proc_pid_stat(5).
func parseStat(pid int, line []byte) (e Entry, ok bool) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 || len(line) < end+3 {
		return Entry{}, false
	}
	e.PID, e.State = pid, line[end+2]
	line = line[end+3:]
	for field := 4; ; field++ {
		line = bytes.TrimLeft(line, " ")
		n := bytes.IndexByte(line, ' ')
		if n <= 0 {
			return e, false
		}
		value := numberOf(line[:n])
		line = line[n:]
		switch field {
		case 4:
			e.Parent = int(value)
		case 5:
			e.Group = int(value)
		case 6:
			e.Session = int(value)
		case 14, 15, 16, 17:
			e.Ticks += value
		case 20:
			e.threads = int(value)
		case 22:
			e.Began = uint64(value)
		case 23:
			e.size = value
		case 24:
			e.Pages = value
			return e, true
		}
	}
}

func numberOf(digits []byte) (n int64) {
	negative := digits[0] == '-'
	for _, c := range digits {
		if c >= '0' && c <= '9' {
			n = n*10 + int64(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}

// markedBy returns the number of the start in whose environment a process began, 0 where it is no start of that guard or its
// environment cannot be read. wanted is what stands before the number.
func markedBy(pid int, wanted []byte) uint64 {
	fd, err := openProc(pid, "environ")
	if err != nil {
		return 0
	}
	defer syscall.Close(fd)
	whole := len(wanted) + idDigits
	var buf [4 << 10]byte
	kept := 1 // the first variable has a NUL before it too
	for {
		n, err := syscall.Read(fd, buf[kept:])
		text := buf[:kept+max(n, 0)]
		if i := bytes.Index(text, wanted); i >= 0 && len(text) >= i+whole {
			id, _ := strconv.ParseUint(string(text[i+len(wanted):i+whole]), 16, 64)
			return id
		}
		if n <= 0 || err != nil {
			return 0
		}
		kept = copy(buf[:], text[max(0, len(text)-whole):])
	}
}

const idDigits = 16

// Mark returns the variable that a start gets, of one length.
func Mark(mark string, id uint64) string {
	digits := strconv.FormatUint(id, 16)
	const zeros = "0000000000000000"
	return MarkName + "=" + mark + "-" + zeros[len(digits):] + digits
}

// Owners tells whose a process is. Its leaders' pids may not have been given to others: they are not reaped, or the guard that
// did not reap them has just ended.
type Owners struct {
	Leaders map[int]uint64 // pid to the number of the start
	Mark    string
	Root    int // of whose descendants it tells, 0: of all
}

// Owners that are no start.
const (
	strays = 0              // of a descendant of Root that belongs to no start that is left
	dying  = math.MaxUint64 // of one that ends at this moment and cannot be asked any more whose it is
)

// Assign gives every entry of a table its owner: a start, or strays, or dying; or none.
func (o Owners) Assign(table []Entry) {
	wanted := []byte("\x00" + MarkName + "=" + o.Mark + "-")
	for i := range table {
		e := &table[i]
		if o.Root != 0 && !descends(table, e, o.Root) {
			continue
		}
		id := o.byLeader(table, e)
		if id == strays {
			id = o.byMark(table, e, wanted)
		}
		if o.Root != 0 && id == strays && e.Parent == o.Root && isDying(e) {
			id = dying
		}
		if o.Root != 0 || id != strays {
			e.Owner, e.Owned = id, true
		}
	}
}

// byLeader looks whether the process, or what it descends from, is in a leader's group or session.
func (o Owners) byLeader(table []Entry, e *Entry) uint64 {
	for steps := 0; e != nil && steps < len(table) && e.PID != o.Root; steps++ {
		for _, pid := range [...]int{e.PID, e.Group, e.Session} {
			if id, ok := o.Leaders[pid]; ok {
				return id
			}
		}
		e = parentOf(table, e)
	}
	return strays
}

// byMark looks whether it, or what it descends from, has a mark.
func (o Owners) byMark(table []Entry, e *Entry, wanted []byte) uint64 {
	for steps := 0; e != nil && steps < len(table) && e.PID != o.Root && e.PID > 1; steps++ {
		if !e.marked {
			e.mark, e.marked = markedBy(e.PID, wanted), true
		}
		if e.mark != strays {
			return e.mark
		}
		e = parentOf(table, e)
	}
	return strays
}

// isDying reports whether a process has given its memory back, and its environment with it.
func isDying(e *Entry) bool {
	now, ok := ReadEntry(e.PID)
	return !ok || now.Began != e.Began || now.size == 0
}

func descends(table []Entry, e *Entry, root int) bool {
	child := e.PID
	for steps := 0; e != nil && steps < len(table); steps++ {
		if e.PID == root {
			return child != root
		}
		e = parentOf(table, e)
	}
	return false
}

// parentOf returns a process's parent, nil where that is not in the table. The table is not of one moment: a parent that began after
// its child is another process of the same pid. Who follows parents counts the steps, since a circle cannot be ruled out for the
// same reason.
func parentOf(table []Entry, e *Entry) *Entry {
	i, ok := slices.BinarySearchFunc(table, e.Parent, func(e Entry, pid int) int { return cmp.Compare(e.PID, pid) })
	if !ok || table[i].Began > e.Began {
		return nil
	}
	return &table[i]
}

// Signal sends a signal to a process of the table, and to no other that may have its pid now.
func (e *Entry) Signal(sig syscall.Signal) {
	fd, err := pidfdOpen(e.PID)
	if errors.Is(err, syscall.ESRCH) {
		return
	}
	if err == nil {
		defer syscall.Close(fd)
	}
	if now, ok := ReadEntry(e.PID); !ok || now.Began != e.Began {
		return
	}
	if err != nil { // a kernel or a sandbox without pidfds
		_ = syscall.Kill(e.PID, sig)
		return
	}
	pidfdSendSignal(fd, sig)
}
