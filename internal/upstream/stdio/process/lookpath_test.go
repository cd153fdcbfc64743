package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLookPath holds what a command means in a directory and under a PATH.
func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"bin/tool": 0o755, "other/tool": 0o755, "plain/tool": 0o644, "here": 0o755} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ command, path, want string }{
		{"tool", dir + "/bin:" + dir + "/other", "bin/tool"},
		{"tool", dir + "/plain:" + dir + "/other", "other/tool"}, // who may not be run hides nobody
		{"tool", "bin", "bin/tool"},                              // relative to the entry's directory, not to the daemon's
		{"here", ":/nowhere", "here"},
		{"./here", "/nowhere", "here"},
		{"bin/tool", "/nowhere", "bin/tool"},
		{filepath.Join(dir, "other/tool"), "", "other/tool"},
		{"here", "/nowhere", ""},
		{"tool", dir + "/plain", ""},
		{"bin", dir, ""},
		{"here", "", ""},
	} {
		got, err := LookPath(c.command, dir, []string{"PATH=/first/is/not/asked", "PATH=" + c.path})
		want := ""
		if c.want != "" {
			want = filepath.Join(dir, c.want)
		}
		var fault *CommandError
		if got != want || want == "" && !errors.As(err, &fault) || want != "" && err != nil {
			t.Errorf("%q with PATH=%s: got %q, %v, want %q", c.command, c.path, got, err, want)
		}
	}
}
