package mcptest

import (
	"net"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// Browse opens a file in Chromium, which `make setup` installs, and returns its document once the scripts in it have run. Flags are more
// of Chromium's command line. The test fails where the page asks anybody for anything.
func Browse(t *testing.T, file string, flags ...string) []byte {
	t.Helper()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = c.Close() // nothing is answered
		}
	}()
	flags = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + t.TempDir(), "--disable-background-networking", "--disable-component-update",
		"--proxy-server=http://" + proxy.Addr().String(), "--virtual-time-budget=2000", "--dump-dom",
	}, append(flags, "file://"+file)...)
	cmd := exec.CommandContext(t.Context(), browser(t), flags...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	_ = proxy.Close() // it was only listened to
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("%s: %d requests", file, n)
	}
	return out
}

func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium on this machine: make setup (Debian's chromium-headless-shell will do)")
	return ""
}
