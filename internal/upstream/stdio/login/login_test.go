package login

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fluentd-perf/internal/upstream/stdio/process"
)

// TestShellOf: $SHELL is the login shell where it is one, else what the account has; how each is run.
func TestShellOf(t *testing.T) {
	dir := t.TempDir()
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bash, zsh, plain, nologin := program("bash", 0o755), program("zsh", 0o755), program("plain", 0o644), program("nologin", 0o755)
	passwd := "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000:Ann,,,:/home/ann:" + zsh + "\nbob:x:1001:1001::/:" + nologin + "\n"
	for _, c := range []struct {
		environ    string
		uid        int
		want, says string
	}{
		{"SHELL=" + bash, 1000, bash, ""},
		{"X=1", 1000, zsh, ""},
		{"SHELL=", 1000, zsh, ""},
		{"SHELL=bash", 1000, zsh, ""},
		{"SHELL=" + plain, 1000, zsh, ""},
		{"SHELL=" + nologin, 1000, zsh, ""},
		{"SHELL=/bin/false", 1000, zsh, ""},
		{"SHELL=" + dir, 1000, zsh, ""},
		{"SHELL=" + dir + "/gone", 1000, zsh, ""},
		{"X=1", 1001, "", "there is no login shell: $SHELL: names none; /etc/passwd: " + nologin + " is none"},
		{"SHELL=" + plain, 7, "", "there is no login shell: $SHELL: " + plain + " is no program; /etc/passwd: names none"},
	} {
		got, err := shellOf([]string{c.environ}, accountOf(strings.NewReader(passwd), c.uid))
		if got != c.want || (err == nil) != (c.says == "") || err != nil && err.Error() != c.says {
			t.Errorf("%s, %d: %q, %v, want %q %s", c.environ, c.uid, got, err, c.want, c.says)
		}
	}
	if got, want := accountOf(strings.NewReader(passwd), 1000), (account{"ann", "/home/ann", zsh}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestInvoke: one command in every shell's own way.
func TestInvoke(t *testing.T) {
	for _, c := range []struct {
		shell       string
		interactive bool
		want        invocation
		shown       string
	}{
		{"/bin/zsh", true, invocation{"", []string{"/bin/zsh", "-l", "-i", "-c", "x y"}}, "/bin/zsh -l -i"},
		{"/bin/zsh", false, invocation{"", []string{"/bin/zsh", "-l", "-c", "x y"}}, "/bin/zsh -l"},
		{"/bin/tcsh", true, invocation{"-tcsh", []string{"/bin/tcsh", "-i", "-c", "x y"}}, "/bin/tcsh -i"},
		{"/bin/csh", false, invocation{"-csh", []string{"/bin/csh", "-c", "x y"}}, "/bin/csh"},
	} {
		if got := invoke(c.shell, c.interactive, "x y"); !reflect.DeepEqual(got, c.want) || got.String() != c.shown {
			t.Errorf("%s %v: %+v %v, want %+v %s", c.shell, c.interactive, got, got, c.want, c.shown)
		}
	}
}

// TestDirectories: what is appended to PATH exists, is not there yet, and is the newest of several.
func TestDirectories(t *testing.T) {
	home := t.TempDir()
	for _, dir := range []string{"go/bin", ".cargo/bin", ".nvm/versions/node/v9.11.2/bin", ".nvm/versions/node/v18.20.0/bin", ".nvm/versions/node/v18.3.10/bin"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "bin"), nil, 0o700); err != nil { // no directory
		t.Fatal(err)
	}
	begin := func(environ ...string) string {
		path, _, _ := strings.Cut(process.Lookup(withDirectories(environ), "PATH")+":", ":/opt/homebrew/bin:")
		path, _, _ = strings.Cut(path+":", ":/home/linuxbrew/.linuxbrew/bin:")
		path, _, _ = strings.Cut(path+":", ":/usr/local/bin:")
		return path
	}
	cargo := home + "/.cargo/bin"
	for _, c := range []struct{ path, want string }{
		{"/usr/bin:/bin", "/usr/bin:/bin:" + home + "/.nvm/versions/node/v18.20.0/bin:" + cargo + ":" + home + "/go/bin"},
		{cargo, cargo + ":" + home + "/.nvm/versions/node/v18.20.0/bin:" + home + "/go/bin"},
	} {
		if got := begin("PATH="+c.path, "HOME="+home); got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
	if got := process.Lookup(withDirectories([]string{"HOME=relative"}), "PATH"); !strings.HasSuffix(got, "/bin") || strings.Contains(got, home) {
		t.Errorf("without a PATH: %s", got)
	}
	environ := withDefaults([]string{"HOME=/mine", "USER="}, account{"ann", "/home/ann", ""})
	if process.Lookup(environ, "HOME") != "/mine" || process.Lookup(environ, "USER") != "ann" || process.Lookup(environ, "LOGNAME") != "ann" {
		t.Errorf("defaults %q", environ)
	}
}

// TestPrint: an environment of any size is written whole or not at all.
func TestPrint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "environment")
	if err := printEnvironment([]string{file}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "PATH="+os.Getenv("PATH")+"\x00") {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LARGE", strings.Repeat("x", maxEnvironment))
	if err := printEnvironment([]string{file}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestPrivateDirectory: a place whose path a shell could read as something else is not used.
func TestPrivateDirectory(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", parent)
	for _, environ := range []string{"XDG_RUNTIME_DIR=" + parent, "XDG_RUNTIME_DIR=/none", "XDG_RUNTIME_DIR=run"} {
		dir, err := privateDirectory([]string{environ})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 || filepath.Dir(dir) != "/tmp" {
			t.Errorf("%s: %s, %v, %v", environ, dir, info, err)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}
}
