// Package guard is the process that is the parent of every stdio server on Linux: the same binary, which becomes the guard by its
// own name, before the other packages of the program set themselves up. Package process starts it, and says what it is for.
//
// It is small: at most 6 MB (PSS), while many servers start as well. So it imports little of the standard library and nothing else,
// which has the linker put its init before most others; it leaves no garbage where it looks at processes; and it gives back the pages
// of the program's file after each thing that it does.
package guard

// ScopeProgram is what may start a server in a cgroup with limits, and becomes the server then.
const ScopeProgram = "systemd-run"

// MarkName is the variable by which a server's processes are found when nothing else leads to them: its value is the guard's own
// random number and the start's.
const MarkName = "FLUENTD_PERF_GUARD"
