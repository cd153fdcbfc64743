package fluentdperf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnTemp holds what `make test` runs in: a directory for temporary files that is new, is reached by every user, keeps
// sockets' paths short and is gone in the end; what is left in it is an error that names it.
func TestOwnTemp(t *testing.T) {
	script, err := filepath.Abs("scripts/own-temp.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command string
		exit    int
		left    string // words of what it prints
	}{
		"nothing":           {`test -d "$TMPDIR" && test -z "$(ls -A "$TMPDIR")"`, 0, ""},
		"removed again":     {`mktemp -d >made && rmdir "$(cat made)"`, 0, ""},
		"open to all":       {`test "$(ls -ld "$TMPDIR" | cut -c1-10)" = drwxrwxrwt`, 0, ""},
		"a file":            {`touch "$TMPDIR/x"`, 1, "/x\n"},
		"a hidden one":      {`touch "$TMPDIR/.x"`, 1, "/.x\n"},
		"a folder's file":   {`mkdir "$TMPDIR/d" && touch "$TMPDIR/d/x"`, 1, "/d/x\n"},
		"a failure":         {`exit 3`, 3, ""},
		"a failure's file":  {`touch "$TMPDIR/x"; exit 3`, 1, "/x\n"},
		"a run in this one": {`TMPDIR=$(dirname "$TMPDIR") "$OWN_TEMP" true`, 1, "remove it then"},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			cmd := exec.Command(script, "sh", "-c", c.command)
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "TMPDIR="+temp, "OWN_TEMP="+script)
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != c.exit || !strings.Contains(string(out), c.left) {
				t.Errorf("exit %d, want %d and %q:\n%s", got, c.exit, c.left, out)
			}
			if entries, err := os.ReadDir(temp); err != nil || len(entries) > 0 {
				t.Errorf("it leaves %v, %v", entries, err)
			}
		})
	}
}

// TestOwnTempIsShort holds that the directory's name leaves room for a socket's path, and is the same in every run: Go
// takes no result from its cache where $TMPDIR has changed.
func TestOwnTempIsShort(t *testing.T) {
	var names [2]string
	for i := range names {
		cmd := exec.Command("scripts/own-temp.sh", "sh", "-c", `echo "$TMPDIR"`)
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		names[i] = filepath.Base(strings.TrimSpace(string(out)))
	}
	if names[0] != names[1] || len(names[0]) > 12 {
		t.Errorf("the names are %q", names)
	}
}
