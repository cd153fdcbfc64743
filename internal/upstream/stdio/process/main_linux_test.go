package process

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArgument {
		childMain(os.Args[2], os.Args[3:])
		syscall.Exit(0) // at once: os.Exit takes a second under the race detector
	}
	plain, err := mcptest.PlainBinary()
	if err == nil {
		err = os.Setenv(plainVariable, plain)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
