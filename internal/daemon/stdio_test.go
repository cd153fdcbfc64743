package daemon

import (
	"syscall"
	"testing"

	"fluentd-perf/internal/upstream/stdio/process"
)

// TestKilled holds which ends of a process are no exit of its own.
func TestKilled(t *testing.T) {
	for e, want := range map[process.Exit]bool{
		{Code: 0}: false, {Code: 3}: false, {Code: -1, Lost: true}: true, {Code: 1, NotRun: true}: true, {Code: -1, Signal: syscall.SIGKILL}: true, {Code: 1, Memory: true}: true,
		{Code: -1, Signal: syscall.SIGTERM}: true, {Code: -1, Signal: syscall.SIGXCPU}: true, {Code: -1, Signal: syscall.SIGSEGV, Memory: true}: true,
		{Code: -1, Signal: syscall.SIGSEGV}: false, {Code: -1, Signal: syscall.SIGABRT}: false, {Code: -1, Signal: syscall.SIGBUS}: false,
		{Code: -1, Signal: syscall.SIGILL}: false, {Code: -1, Signal: syscall.SIGFPE}: false, {Code: -1, Signal: syscall.SIGPIPE}: false,
		{Code: -1, Signal: syscall.SIGTRAP}: false,
	} {
		if got := killed(e); got != want {
			t.Errorf("%+v: %v, want %v", e, got, want)
		}
	}
}
