package sqldb_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if code == 0 && removeTemplate() != nil {
			code = 1
		}
		os.Exit(code)
	}))
}
