package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// newShell makes a login shell of a script, which has the words to run in $4 where it is interactive and in $3 else, and the file
// that they lead to in $file.
func newShell(t *testing.T, script string) (home string, environ []string) {
	t.Helper()
	home, environ = newHome(t, nil)
	path := filepath.Join(home, "shell")
	const begin = "#!/bin/sh\nfor words; do :; done\nfile=${words##* }\n"
	if err := os.WriteFile(path, []byte(begin+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return home, append(environ, "SHELL="+path)
}

// TestRun holds what a shell finds: no terminal, no input, a session of its own at home, and a file that is the user's alone.
func TestRun(t *testing.T) {
	home, environ := newShell(t, `
		exec >"$HOME/facts" 2>&1
		echo "$1 $2 $3 $FLUENTD_PERF_RESOLVING $TERM"
		pwd
		cat
		(exec </dev/tty) 2>/dev/null || echo no terminal
		[ "$(cut -d" " -f6 "/proc/$$/stat")" = $$ ] && echo a session
		$words
		stat -c %a "${file%/*}" "$file"`)
	env := resolveWith(t, Options{Environ: environ, Limit: long})
	if len(env.Failures) > 0 {
		t.Error(env.Failures)
	}
	checkNothingLeft(t, home, environ)
	facts, err := os.ReadFile(home + "/facts")
	if want := "-l -i -c 1 dumb\n" + home + "\nno terminal\na session\n700\n600\n"; err != nil || string(facts) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, facts, want)
	}
}

// TestHostile: whatever a shell does with the file, it is read within bounds or not at all, and nothing but it.
func TestHostile(t *testing.T) {
	for does, c := range map[string]struct {
		script string
		says   string            // in the failure; "": there is none
		want   map[string]string // variables
	}{
		"twice":    {`A=1 $words; A=2 $words`, "", map[string]string{"A": "2"}},
		"names":    {`printf 'A=1\000=x\000B C=2\000BASH_FUNC_f%%%%=() {\000A=2\000none\000PWD=/x\000D=\n=\000E=' >"$file"`, "", map[string]string{"A": "2", "D": "\n=", "E": ""}},
		"link":     {`echo SECRET=1 >"$HOME/other"; ln -s "$HOME/other" "$file"`, "a symbolic link", nil},
		"fifo":     {`mkfifo "$file"`, "not a regular file", nil},
		"large":    {`head -c 3000000 /dev/zero >"$file"`, "more than 2097152 bytes", nil},
		"killed":   {`kill -9 $$`, "has ended without saying its environment (killed by signal: killed)", nil},
		"unwilled": {`$words extra; exit 0`, "it takes a file", nil},
	} {
		t.Run(does, func(t *testing.T) {
			t.Parallel()
			home, environ := newShell(t, c.script)
			env := resolveWith(t, Options{Environ: environ, Limit: long})
			checkNothingLeft(t, home, environ)
			if c.says != "" {
				if len(env.Failures) != 2 || !strings.Contains(env.reasons(), c.says) || strings.Contains(fmt.Sprint(env), "SECRET") {
					t.Errorf("%v, want %q", env.Failures, c.says)
				}
				checkOwn(t, env, home)
				return
			}
			for name, want := range c.want {
				if !slices.Contains(env.Words, name+"="+want) {
					t.Errorf("%s is not %q in %q", name, want, env.Words)
				}
			}
			if does == "names" && len(env.Words) != len(c.want)+1 { // and TERM
				t.Errorf("got %q", env.Words)
			}
		})
	}
}

// TestOnce: the shell runs once for all who ask, and again after Refresh. What was found is logged once.
func TestOnce(t *testing.T) {
	home, environ := newShell(t, `echo run >>"$HOME/runs"; RUN=$(wc -l <"$HOME/runs") $words`)
	var log bytes.Buffer
	r := New(Options{Environ: environ, Limit: long, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for run := range 2 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if env, err := r.Environment(t.Context()); err != nil || process.Lookup(env.Words, "RUN") != strconv.Itoa(run+1) {
					t.Error(env, err)
				}
			})
		}
		all.Wait()
		if run == 0 {
			r.Refresh()
		}
	}
	r.Close()
	if n := strings.Count(log.String(), "commands get the environment of the login shell"); n != 2 || strings.Count(log.String(), "shell="+home+"/shell") != n {
		t.Errorf("the log says\n%s", &log)
	}
}

// TestLeave: who does not wait any longer leaves alone; Close ends a shell that hangs, and all that it has started.
func TestLeave(t *testing.T) {
	home, environ := newShell(t, `trap "" TERM HUP; sh "$HOME/tmux" new; echo >"$HOME/began"; while :; do sleep 1000; done`)
	r := New(Options{Environ: environ, Limit: long})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := r.Environment(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	stays := make(chan Environment, 1)
	waiting.Go(func() {
		env, err := r.Environment(context.WithoutCancel(ctx))
		if err != nil {
			t.Error(err)
		}
		stays <- env
	})
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(home + "/began"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	cancel()
	r.Close()
	waiting.Wait()
	checkOwn(t, <-stays, home)
	checkNothingLeft(t, home, environ)
	if env, err := r.Environment(t.Context()); err != nil || env.Shell != "" {
		t.Errorf("%v, %v after the first", env, err)
	}
	r.Refresh()
	if env, err := r.Environment(t.Context()); err != nil || env.Shell != "" || !strings.Contains(env.Source(), "the daemon is stopping") {
		t.Errorf("%v, %v after Close", env, err)
	}
}

// TestWithin: a daemon that a start file starts runs no shell.
func TestWithin(t *testing.T) {
	home, environ := newShell(t, `touch "$HOME/runs"; $words`)
	env := resolveWith(t, Options{Environ: append(environ, resolvingName+"=1"), Limit: long})
	if len(env.Failures) != 1 || !strings.Contains(env.reasons(), "a start file of the login shell has started this daemon") {
		t.Error(env.Failures)
	}
	checkOwn(t, env, home)
	if _, err := os.Stat(home + "/runs"); err == nil {
		t.Error("the shell was run")
	}
}

// TestMultishell: fnm gives each shell a directory of its own, which leads to the same place.
func TestMultishell(t *testing.T) {
	home, environ := newShell(t, `
		mkdir -p "$HOME/fnm_multishells" "$HOME/versions/v22"/bin
		ln -s "$HOME/versions/v22" "$HOME/fnm_multishells/$$"
		PATH=$HOME/fnm_multishells/$$/bin:$PATH:/none/fnm_multishells/1 $words`)
	env := resolveWith(t, Options{Environ: environ, Limit: long})
	if got, want := process.Lookup(env.Words, "PATH"), home+"/versions/v22/bin:/usr/bin:/bin:/none/fnm_multishells/1"; got != want {
		t.Errorf("PATH is %s, want %s", got, want)
	}
}

// TestNoTimeToStart: a shell that a busy machine has not even started in its time is one that has said nothing.
func TestNoTimeToStart(t *testing.T) {
	home, environ := newHome(t, nil)
	env := resolveWith(t, Options{Environ: append(environ, "SHELL="+lookShell(t, "sh")), Limit: time.Nanosecond})
	if len(env.Failures) != 2 || !strings.Contains(env.reasons(), "sh -l -i has not said its environment within 1ns") {
		t.Errorf("failures %v", env.Failures)
	}
	checkOwn(t, env, home)
}
