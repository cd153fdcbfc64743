package login

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	PrintIfAsked()
	goleak.VerifyTestMain(m)
}
