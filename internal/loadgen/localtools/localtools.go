// Package localtools is three tools that do on this machine what servers of agents do: one reads a file, one runs a command, one has
// Go build a program. They have no input but their files, which Prepare has written: nothing that a caller says reaches a file name, a
// shell or a compiler.
//
// The package ends what it has started when the context of a call ends, and leaves only what is in its directory.
package localtools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fluentd-perf/internal/loadgen"
)

// The tools.
const (
	Filesystem = "filesystem" // reads a file of 10 KB
	Shell      = "shell"      // has a shell run grep over it
	Compiler   = "compiler"   // has Go build and link a small program
)

// Names returns their names.
func Names() []string { return []string{Filesystem, Shell, Compiler} }

// Names of files in the directory.
const (
	textFile    = "text.txt"
	programDir  = "program"
	lines       = 128
	programText = "package main\n\nfunc main() { println(\"built\") }\n"
	moduleText  = "module benchmark.invalid/program\n\ngo 1.21\n"
	script      = "grep -c line " + textFile
)

// endTimeout is how long a command that was ended may hold its output open.
const endTimeout = time.Second

// text is what the file holds.
func text() string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "line %3d: %s\n", i, strings.Repeat("x", 69))
	}
	return b.String()
}

// Prepare writes the files into a directory of the caller's.
func Prepare(dir string) error {
	program := filepath.Join(dir, programDir)
	return errors.Join(
		os.Mkdir(program, 0o700),
		os.WriteFile(filepath.Join(dir, textFile), []byte(text()), 0o600),
		os.WriteFile(filepath.Join(program, "main.go"), []byte(programText), 0o600),
		os.WriteFile(filepath.Join(program, "go.mod"), []byte(moduleText), 0o600),
	)
}

// Missing returns why a tool cannot be had on this machine; nil: it can.
func Missing(name string) (err error) {
	switch name {
	case Shell:
		_, err = exec.LookPath("sh")
	case Compiler:
		_, err = exec.LookPath("go")
	}
	return err
}

// Result returns the text that a tool gives; "" for one that there is not.
func Result(name string) string {
	return map[string]string{Filesystem: text(), Shell: fmt.Sprintln(lines), Compiler: "built"}[name]
}

// Run runs a tool over the files of a directory, and returns its text.
func Run(ctx context.Context, dir, name string) (string, error) {
	switch name {
	case Filesystem:
		b, err := os.ReadFile(filepath.Join(dir, textFile))
		return string(b), err
	case Shell:
		return output(command(ctx, dir, "sh", "-c", script))
	case Compiler:
		return build(ctx, dir)
	}
	return "", fmt.Errorf("no tool %q", name)
}

// build builds the program into a file of its own, so that it is linked each time. What is compiled comes from Go's cache.
func build(ctx context.Context, dir string) (string, error) {
	out, err := os.MkdirTemp(dir, "built-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(out)
	file := filepath.Join(out, "program")
	c := command(ctx, filepath.Join(dir, programDir), "go", "build", "-o", file, ".")
	c.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "GOPROXY=off", "CGO_ENABLED=0", "GO111MODULE=on", "PWD="+c.Dir)
	if _, err := output(c); err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", err
	}
	return Result(Compiler), nil
}

// command is a command in a group of its own, which is ended as a whole when ctx ends.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.SysProcAttr = loadgen.EndsWithParent()
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = endTimeout
	return c
}

// output returns what a command writes. The error has the end of what it says.
func output(c *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		said := bytes.TrimSpace(stderr.Bytes())
		return "", fmt.Errorf("%w: %s", err, said[max(0, len(said)-500):])
	}
	return string(out), nil
}
