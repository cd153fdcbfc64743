// Package profiler records profiles of the process that it runs in (record.go), and makes a report of a recording (report.go).
//
// One profile is recorded at a time. What a kind needs to be switched on, the rates of blocking and of locks, is on only while such a
// profile is recorded: a process that nobody looks at pays for none of it, whatever becomes of the one who asked. What Go samples
// always, an allocation in 512 KiB, is left as it is.
//
// The package does not know where a recording goes and how the functions are drawn.
package profiler
