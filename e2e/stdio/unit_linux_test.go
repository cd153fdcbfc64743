//go:build amd64

package stdio

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"

	"fluentd-perf/e2e/harness"
)

// restrictedArgument is the first argument of the test binary where it is to become another program, with the restrictions of the user
// unit; the program and its arguments follow.
const restrictedArgument = "restricted"

// unitFiles is the unit's LimitNOFILE, or the limit that the tests have where that is lower: only some may raise it.
func unitFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	return min(65536, limit.Max)
}

// Of deploy/systemd/user/fluentd-perf.service: the system calls of SystemCallFilter and LockPersonality as far as this architecture has
// them, which fail with EPERM, and the families of RestrictAddressFamilies.
var (
	unitDenied = []uint32{
		unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME, unix.SYS_SETTIMEOFDAY,
		unix.SYS_MODIFY_LDT, unix.SYS_DELETE_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_INIT_MODULE,
		unix.SYS__SYSCTL, unix.SYS_AFS_SYSCALL, unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_GETPMSG, unix.SYS_PUTPMSG,
		unix.SYS_QUERY_MODULE, unix.SYS_SECURITY, unix.SYS_SYSFS, unix.SYS_TUXCALL, unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_VSERVER,
		unix.SYS_IOPERM, unix.SYS_IOPL, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPOFF, unix.SYS_SWAPON,
		unix.SYS_PERSONALITY,
	}
	unitFamilies = []uint32{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_NETLINK}
)

// becomeIfRestricted does not return in a process that is to become a restricted program.
func becomeIfRestricted() {
	if len(os.Args) < 3 || os.Args[1] != restrictedArgument {
		return
	}
	fmt.Fprintln(os.Stderr, becomeRestricted(os.Args[2:]))
	os.Exit(1)
}

func becomeRestricted(args []string) error {
	runtime.LockOSThread() // the filter is this thread's, which becomes the program
	files := unitFiles()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	filter := unitFilter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// unitFilter is the unit's filter. Offsets are those of struct seccomp_data: 0 the system call, 16 its first argument.
func unitFilter() (filter []unix.SockFilter) {
	const load, equal, result = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	fail := func(errno syscall.Errno) unix.SockFilter {
		return unix.SockFilter{Code: result, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	allow := unix.SockFilter{Code: result, K: unix.SECCOMP_RET_ALLOW}
	filter = append(filter, unix.SockFilter{Code: load})
	for _, call := range unitDenied {
		filter = append(filter, unix.SockFilter{Code: equal, Jf: 1, K: call}, fail(unix.EPERM))
	}
	filter = append(filter, unix.SockFilter{Code: equal, Jt: 1, K: unix.SYS_SOCKET}, allow, unix.SockFilter{Code: load, K: 16})
	for _, family := range unitFamilies {
		filter = append(filter, unix.SockFilter{Code: equal, Jf: 1, K: family}, allow)
	}
	return append(filter, fail(unix.EAFNOSUPPORT))
}

// TestUserUnit plays npm's filesystem server with both official clients through a daemon that has the restrictions of the user unit, as
// far as they can be set without a service manager: the limit of descriptors, no new privileges, the filter of system calls and the
// families of sockets. The server has them all.
func TestUserUnit(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	filesystem := casts()[0]
	pairs, entries := []*pair{}, map[string]any{}
	for _, client := range []string{"go", "ts1"} {
		p := &pair{cast: filesystem, client: client, folders: [2]string{t.TempDir() + "/", t.TempDir() + "/"}}
		pairs, entries[p.id()] = append(pairs, p), p.entry(1)
	}
	file := harness.WriteFile(t, "mcp.json", string(harness.RawJSON(map[string]any{"mcpServers": entries})))
	at, addr := harness.NewFolders(t), "127.0.0.1:"+harness.FreePort(t)
	args := append([]string{restrictedArgument, harness.DaemonBinary, "serve", "--listen", addr, "--mcp-json", file}, at.Args()...)
	d := &harness.Daemon{Process: harness.StartProcess(t, append(at.Env(), "GORACE=atexit_sleep_ms=0"), self, args...), T: t, Addr: addr}
	t.Cleanup(d.Finish)
	if !d.Accepts(addr) {
		t.Fatalf("the daemon has ended:\n%s", d.Out)
	}
	playClients(t, pairs, d)
	s := connect(t, d.URL(""), pairs[0].id())
	if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_allowed_directories", Arguments: values{}}); err != nil {
		t.Fatal(err)
	}
	checkRestricted(t, serverOf(t, at, pairs[0].id()))
}

// serverOf is a process of an upstream, as status shows it.
func serverOf(t *testing.T, at harness.Folders, upstream string) (pid int) {
	t.Helper()
	text, complaints, _ := at.Verb(t, "status", "--processes")
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == upstream {
			for _, field := range fields[1:] {
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
					return pid
				}
			}
		}
	}
	t.Fatalf("no process of %s in\n%s%s", upstream, text, complaints)
	return 0
}

func checkRestricted(t *testing.T, pid int) {
	t.Helper()
	for file, wants := range map[string][]string{
		"status": {"NoNewPrivs: 1", "Seccomp: 2"},
		"limits": {fmt.Sprintf("Max open files %d %d files", unitFiles(), unitFiles()), "Max core file size 0 0 bytes"},
	} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
				t.Errorf("process %d has no %q in\n%s", pid, want, text)
			}
		}
	}
}
