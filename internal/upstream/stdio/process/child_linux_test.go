package process

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// childArgument is the first argument of the test binary where it is to be a server, and the second says which.
const childArgument = "child"

// plainVariable is the variable with the test binary that servers are: see mcptest.PlainBinary.
const plainVariable = "PROCESS_TEST_PLAIN"

// childCommand is the command of a server, or of a daemon, in which the race detector has something to find.
func childCommand(mode string, args ...string) []string {
	binary := os.Getenv(plainVariable)
	if mode == "daemon" || binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			panic(err)
		}
	}
	return append([]string{binary, childArgument, mode}, args...)
}

// childMain is a server. Each process of it writes "pid N" to stdout when it is what it is to be.
func childMain(mode string, args []string) {
	switch mode {
	case "echo": // as servers should be
		hello()
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "deaf": // to end of file and SIGTERM
		signal.Ignore(syscall.SIGTERM)
		hello()
		forever()
	case "forks": // on SIGTERM, and lives on; its child too
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		hello()
		<-c
		fork("forks")
		forever()
	case "spin":
		signal.Ignore(syscall.SIGTERM)
		hello()
		for i := 0; ; i++ {
			_ = i
		}
	case "parent": // of grandchildren that hear nothing
		fork("deaf")
		fork("deaf")
		childMain("echo", nil)
	case "leaves": // ends, and leaves a deaf child, when that is one
		c := command("deaf", nil)
		c.Stdout = nil
		out, _ := c.StdoutPipe()
		begin(c)
		line, _ := bufio.NewReader(out).ReadString('\n')
		fmt.Print(line)
		hello()
	case "daemonizes": // forks twice, with a session of its own
		runToEnd(command("between", nil, "deaf"))
		childMain("echo", nil)
	case "vanishes": // the same with an empty environment
		runToEnd(command("between", []string{}, "deaf"))
		childMain("echo", nil)
	case "between":
		c := command(args[0], []string{})
		if len(os.Environ()) > 0 {
			c.Env = nil
		}
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		begin(c)
	case "fails":
		fmt.Fprintln(os.Stderr, "cannot find the configuration")
		fmt.Fprintln(os.Stderr, "token is", args[0])
		syscall.Exit(3)
	case "floods": // stderr, without a newline
		hello()
		b := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := os.Stderr.Write(b); err != nil {
				return
			}
		}
	case "closes": // stdout only
		hello()
		os.Stdout.Close()
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "wraps": // a server whose stdin's write end the server itself holds too
		r, w, _ := os.Pipe()
		c := command("echo", nil)
		c.Stdin, c.ExtraFiles = r, []*os.File{w}
		begin(c)
		hello()
		_, _ = io.Copy(w, os.Stdin)
		w.Close()
		_ = c.Wait()
	case "shows":
		shows()
	case "daemon":
		daemonMain(args)
	}
}

func hello() { fmt.Println("pid", os.Getpid()) }
func forever() {
	for {
		_ = syscall.Pause()
	}
}

func command(mode string, env []string, args ...string) *exec.Cmd {
	argv := childCommand(mode, args...)
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdout, c.Stderr, c.Env = os.Stdout, os.Stderr, env
	return c
}

func fork(mode string) { begin(command(mode, nil)) }

func begin(c *exec.Cmd) {
	if err := c.Start(); err != nil {
		panic(err)
	}
}

func runToEnd(c *exec.Cmd) {
	if err := c.Run(); err != nil {
		panic(err)
	}
}

// shows writes what a server inherits.
func shows() {
	var limit, core syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &core)
	limit = startLimit()
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Printf("core %d %d\nfiles %d\noom %s", core.Cur, core.Max, limit.Cur, score)
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if s := lines.Text(); len(s) > 6 && (s[:6] == "SigIgn" || s[:6] == "SigBlk") {
			fmt.Println(s)
		}
	}
	names, _ := os.ReadDir("/proc/self/fd")
	for _, name := range names {
		if target, err := os.Readlink("/proc/self/fd/" + name.Name()); err == nil {
			fmt.Println("fd", name.Name(), target)
		}
	}
	sid, _ := getsid()
	fmt.Println("session", sid == os.Getpid(), "group", syscall.Getpgrp() == os.Getpid())
	fmt.Println("end")
}

// daemonMain is a daemon: it starts a server, passes on what that writes, and stops it where it is asked to. A fourth argument
// has it ask for another start of a guard that is stopped.
func daemonMain(args []string) {
	l := usualLadder
	l.eof, _ = time.ParseDuration(args[1])
	l.term, _ = time.ParseDuration(args[2])
	g := newGuard(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, l)
	p, err := g.Start(context.Background(), Spec{Name: "x", Command: childCommand(args[0]), Dir: "/", Env: os.Environ()})
	if err != nil {
		panic(err)
	}
	fmt.Println("pid", g.host.pid())
	out := bufio.NewReader(p.Stdout())
	line, _ := out.ReadString('\n')
	fmt.Print(line)
	go func() {
		_, _ = io.Copy(os.Stdout, out)
	}()
	if len(args) > 3 {
		_ = syscall.Kill(g.host.pid(), syscall.SIGSTOP)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err = g.Start(ctx, Spec{Name: "x", Command: childCommand(args[0]), Dir: "/", Env: os.Environ()})
		fmt.Println("asked", err) // it was sent, and nobody has read it
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		p.Stop()
	}
	forever()
}
