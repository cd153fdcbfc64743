// Command peer is the daemon's company in tests: a scripted MCP server, many agents that post, and many agents that listen, each as a
// process of its own, so that neither their memory nor their CPU is the daemon's or the test's; and servers that are commands.
//
// A peer prints what it has to say as one JSON object a line on standard output and takes commands, one a line, on
// standard input; it ends when that is closed. It listens on 127.0.0.1 only.
//
//	peer upstream                          the server; commands: send, open N
//	peer post URL calls parallel size sse  calls, checked byte for byte
//	peer listen URL streams                GET streams; commands: leave N, leave all
//	peer faulty KIND PORT JOURNAL KEY      a server of the chaos run, which misbehaves as it is told to
//	peer command KEY                       a server of the soak over stdin and stdout
//	peer stdio counting ERA                servers of the tests of commands: one that counts calls, legacy or both,
//	peer stdio faulty FAULT                one with faults, at its start and in calls,
//	peer stdio mixed                       and one that also speaks first
//	peer front CLIENT [ARGUMENT...] URL    a client with a daemon of its own between it and the server at URL
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("upstream, post, listen, faulty, command, stdio or front?")
	}
	switch args[0] {
	case "upstream":
		return upstream()
	case "post":
		return post(args[1:])
	case "listen":
		return listen(args[1:])
	case "faulty":
		return faultyServer(args[1:])
	case "command":
		return faultyCommand(args[1:])
	case "stdio":
		return stdioServer(args[1:])
	case "front":
		return front(args[1:])
	}
	return fmt.Errorf("no such peer: %q", args[0])
}

var stdout sync.Mutex // keeps lines whole

// say prints one message.
func say(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	stdout.Lock()
	defer stdout.Unlock()
	_, err = fmt.Printf("%s\n", line)
	return err
}

// obey calls do for every command until standard input is closed.
func obey(do func(command string) error) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := do(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}
