package process

import (
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArgument {
		childMain(os.Args[2], os.Args[3:])
		syscall.Exit(0) // at once: os.Exit takes a second under the race detector
	}
	goleak.VerifyTestMain(m)
}
