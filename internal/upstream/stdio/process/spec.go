package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// Spec is what to start.
type Spec struct {
	Name    string   // the server's: in the log, and what the limit of stderr lines counts by
	Command []string // the program and its arguments; no shell reads them
	Arg0    string   // the name that the program is told it has; "": Command[0]. Not for what has a limit
	Dir     string   // absolute
	Env     []string // all of it, NAME=value; a mark of the guard's is added
	Secrets []string // what is masked in stderr; shorter than 8 characters is not looked for
	Memory  int64    // bytes for all its processes together, 0: no limit
	Tasks   int      // processes and threads together, 0: no limit
}

// maxSpec bounds command, directory and environment of a start in bytes. It is what Linux takes at most under its usual limits.
const maxSpec = 2 << 20

// Errors of Start besides CommandError and the context's.
var (
	// ErrClosed says that the Guard was closed.
	ErrClosed = errors.New("the daemon is stopping")
	// ErrGuardLost says that the guard ended before it had answered, twice. Later starts may work.
	ErrGuardLost = errors.New("the process that guards the servers ended")
)

// CommandError says that a command cannot run as it is written: it is not there, may not be run, or is no program. It stays so
// until somebody changes something.
type CommandError struct {
	Command  string
	Searched []string // the directories of PATH, where Command is a bare name that is in none
	Err      error    // fs.ErrNotExist, fs.ErrPermission or the system's
}

func (e *CommandError) Error() string {
	switch {
	case len(e.Searched) > 0:
		return fmt.Sprintf("command %q: not found in %s", e.Command, strings.Join(e.Searched, ", "))
	case errors.Is(e.Err, syscall.ENOEXEC):
		return fmt.Sprintf("command %q: not a program of this system, and without a #! line", e.Command)
	}
	return fmt.Sprintf("command %q: %v", e.Command, e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// permanent are the system's errors of a start that the next start would have too.
var permanent = []error{
	syscall.ENOENT, syscall.EACCES, syscall.EPERM, syscall.ENOEXEC, syscall.ENOTDIR, syscall.E2BIG, syscall.ELOOP, syscall.EINVAL,
}

// commandError makes the error of a start from the system's: typed where it is permanent.
func commandError(command string, err error) error {
	for _, one := range permanent {
		if errors.Is(err, one) {
			return &CommandError{Command: command, Err: err}
		}
	}
	return fmt.Errorf("starting %q: %w", command, err)
}

// withLack adds to the error of a start what the program lacks, where the system says of a program that is there that it is not.
func withLack(err error, path string) error {
	fault := new(CommandError)
	if !errors.As(err, &fault) || !errors.Is(fault.Err, syscall.ENOENT) {
		return err
	}
	if _, gone := os.Stat(path); gone != nil {
		return err
	}
	lack := Lack(path)
	if lack == "" {
		lack = "it was made for another system: what loads it is not there"
	}
	return &CommandError{Command: fault.Command, Err: fmt.Errorf("%s: %w", lack, fault.Err)}
}

// maxScriptLine is how much the kernel reads of a program's #! line, in bytes.
const maxScriptLine = 256

// Lack says what a program that is there cannot run without: the interpreter that its #! line names by an absolute path, where that is
// not there. It is "" where nothing is known to be missing.
func Lack(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, maxScriptLine)
	n, _ := io.ReadFull(f, head)
	line, isScript := strings.CutPrefix(string(head[:n]), "#!")
	line, _, _ = strings.Cut(line, "\n")
	interpreter := strings.TrimLeft(line, " \t")
	if end := strings.IndexAny(interpreter, " \t"); end >= 0 {
		interpreter = interpreter[:end]
	}
	if !isScript || !filepath.IsAbs(interpreter) {
		return ""
	}
	if _, err := os.Stat(interpreter); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	lack := fmt.Sprintf("the interpreter %q of its #! line is not there", interpreter)
	if strings.HasSuffix(interpreter, "\r") {
		lack += ", the lines end with CR LF"
	}
	return lack
}

// Exit is how the leader of a Process ended.
type Exit struct {
	Code   int            // 0 to 255, -1 where a signal ended it or nobody knows
	Signal syscall.Signal // 0 where none did
	Memory bool           // it ended because the limit of memory was met
	Lost   bool           // the guard ended, and nobody saw how the server did
	NotRun bool           // systemd-run ended, which was to hold the server to its limits, and the server did not run
	Limit  int64          // the limit of memory, bytes
	Life   time.Duration  // from start to end
}

// Crashed reports whether the server ended by a signal that its own fault brought, from the kernel or by abort(3). Others are sent by
// somebody else, or at a limit. SIGTRAP is how V8, and so Node, aborts.
func (e Exit) Crashed() bool {
	switch e.Signal {
	case syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGPIPE, syscall.SIGTRAP:
		return !e.Lost && !e.Memory
	}
	return false
}

// mayBeMemory reports whether the kernel may have ended the leader for want of memory, or the leader may have ended because that had
// befallen one of its children. One that ends by itself with success, or by another's signal, has lost a child at most.
func (e Exit) mayBeMemory() bool { return e.Signal == syscall.SIGKILL || e.Signal == 0 && e.Code != 0 }

// String says it in words, for an error or a log line.
func (e Exit) String() string {
	switch {
	case e.Lost:
		return "lost: " + ErrGuardLost.Error()
	case e.NotRun:
		return fmt.Sprintf("%s, which was to hold it to processes.memory and processes.tasks, failed: exit status %d", guard.ScopeProgram, e.Code)
	case e.Memory:
		return fmt.Sprintf("killed: more memory than %d bytes", e.Limit)
	case e.Signal != 0:
		return "killed by signal: " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// resolved is a Spec whose program was found.
type resolved struct {
	Spec
	path   string
	scoped bool // systemd-run makes a scope for it, and replaces itself by it
}

// argv is what the program gets.
func (r resolved) argv() []string {
	if r.Arg0 == "" {
		return r.Command
	}
	return append([]string{r.Arg0}, r.Command[1:]...)
}

// resolve finds the program and the directory. Every error is a *CommandError.
func (s Spec) resolve() (resolved, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return resolved{}, &CommandError{Err: errors.New("is empty")}
	}
	size := len(s.Dir)
	for _, list := range [][]string{s.Command, s.Env, {s.Dir, s.Arg0}} {
		for _, word := range list {
			if strings.IndexByte(word, 0) >= 0 {
				return resolved{}, &CommandError{Command: s.Command[0], Err: errors.New("NUL in command, directory or environment")}
			}
			size += len(word) + 1
		}
	}
	if size > maxSpec {
		return resolved{}, &CommandError{Command: s.Command[0], Err: syscall.E2BIG}
	}
	if info, err := os.Stat(s.Dir); err != nil {
		return resolved{}, &CommandError{Command: s.Command[0], Err: fmt.Errorf("working directory: %w", err)}
	} else if !info.IsDir() {
		return resolved{}, &CommandError{Command: s.Command[0], Err: fmt.Errorf("working directory %s: %w", s.Dir, syscall.ENOTDIR)}
	}
	path, err := LookPath(s.Command[0], s.Dir, s.Env)
	return resolved{Spec: s, path: path}, err
}

// LookPath finds the program of a command as a shell in dir with that environment would, and returns its absolute path. The
// error is a *CommandError.
func LookPath(command, dir string, env []string) (string, error) {
	if strings.ContainsRune(command, filepath.Separator) {
		path := absolute(dir, command)
		if err := executable(path); err != nil {
			return "", &CommandError{Command: command, Err: err}
		}
		return path, nil
	}
	failure := &CommandError{Command: command, Err: fs.ErrNotExist}
	for _, directory := range filepath.SplitList(Lookup(env, "PATH")) {
		if slices.Contains(failure.Searched, directory) {
			continue
		}
		failure.Searched = append(failure.Searched, directory)
		path := filepath.Join(absolute(dir, directory), command)
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if errors.Is(err, fs.ErrPermission) { // the next directory may have one that can be run
			failure.Err = err
		}
	}
	switch {
	case !errors.Is(failure.Err, fs.ErrNotExist): // it was found
		failure.Searched = nil
	case len(failure.Searched) == 0:
		failure.Searched = []string{"an empty PATH"}
	}
	return "", failure
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// executable says why a file is no program. Who may run it the kernel decides.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EISDIR}
	case info.Mode()&0o111 == 0:
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EACCES}
	}
	return nil
}

// Lookup returns a variable's value of NAME=value words, the last one's where there are several.
func Lookup(env []string, name string) (value string) {
	for _, variable := range env {
		if key, v, _ := strings.Cut(variable, "="); key == name {
			value = v
		}
	}
	return value
}
