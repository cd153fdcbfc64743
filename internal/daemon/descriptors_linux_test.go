package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestDescriptorLimit runs itself under a soft limit: the daemon's is raised, and what it starts gets the one that it was
// started with.
func TestDescriptorLimit(t *testing.T) {
	const marker = "DESCRIPTOR_LIMIT_CHILD"
	if os.Getenv(marker) != "" {
		limit := descriptorLimit()
		out, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
		fmt.Printf("raised %v, a child's %s, %v\n", limit > 256, strings.TrimSpace(string(out)), err)
		return
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -Sn 256 && exec "$0" -test.run '^TestDescriptorLimit$'`, binary)
	cmd.Env = append(os.Environ(), marker+"=1")
	out, err := cmd.CombinedOutput()
	if want := "raised true, a child's 256, <nil>\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("got %v\n%swant %s", err, out, want)
	}
}
