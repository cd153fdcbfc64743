package there

import "testing"

func TestThere(*testing.T) {}
