package session

import (
	"testing"

	"fluentd-perf/e2e/harness"
)

func TestMain(m *testing.M) { harness.RunTests(m) }
