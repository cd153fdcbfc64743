package login

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/upstream/stdio/process"
)

// passwdFile is where the system says which shell a user has.
const passwdFile = "/etc/passwd"

// noShells are programs that stand in the place of a shell for users who may not have one.
var noShells = []string{"nologin", "false", "true"}

// account is what is known of the user.
type account struct{ name, home, shell string }

// accountOf finds a user in a passwd file, passwd(5). What is not there is "".
func accountOf(passwd io.Reader, uid int) account {
	lines := bufio.NewScanner(passwd)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[2] == strconv.Itoa(uid) {
			return account{fields[0], fields[5], fields[6]}
		}
	}
	return account{}
}

// thisAccount is the account that the process runs as.
func thisAccount() account {
	f, err := os.Open(passwdFile)
	if err != nil {
		return account{}
	}
	defer f.Close()
	return accountOf(f, os.Geteuid())
}

// shellOf chooses the login shell: $SHELL, or the account's where that is none.
func shellOf(environ []string, a account) (string, error) {
	var faults []error
	for _, one := range []struct{ shell, from string }{{process.Lookup(environ, "SHELL"), "$SHELL"}, {a.shell, passwdFile}} {
		err := usableShell(one.shell)
		if err == nil {
			return one.shell, nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", one.from, err))
	}
	return "", fmt.Errorf("there is no login shell: %w; %w", faults[0], faults[1])
}

func usableShell(path string) error {
	switch {
	case path == "":
		return errors.New("names none")
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q is no absolute path", path)
	case slices.Contains(noShells, filepath.Base(path)):
		return fmt.Errorf("%s is none", path)
	}
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
		err = fmt.Errorf("%s is no program", path)
	}
	return err
}

// invocation is how a shell is run.
type invocation struct {
	arg0    string   // "": the shell's own name
	command []string // the shell and its arguments
}

// invoke has a login shell run a command. Its words must mean the same in every shell: nothing in them needs quoting. tcsh takes -l
// as its only argument, and is a login shell by its name, login(1), as all of them were once.
func invoke(shell string, interactive bool, words string) invocation {
	v := invocation{command: []string{shell, "-l"}}
	if base := filepath.Base(shell); base == "tcsh" || base == "csh" {
		v = invocation{"-" + base, []string{shell}}
	}
	if interactive {
		v.command = append(v.command, "-i")
	}
	v.command = append(v.command, "-c", words)
	return v
}

// String is the shell with its options.
func (v invocation) String() string { return strings.Join(v.command[:len(v.command)-2], " ") }
