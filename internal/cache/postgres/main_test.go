package postgres_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests ends the server that they share before anybody looks for what is left.
type tests struct{ *testing.M }

func (t tests) Run() int {
	code := t.M.Run()
	if err := endPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}
