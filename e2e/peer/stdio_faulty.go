package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// notesName is the variable with the folder in which a server with faults notes what it has begun to do.
const notesName = "FAULTY_NOTES"

// serveFaulty is a server of 2025-11-25 that answers every request it has no fault for. What is wrong at its start, if anything is, has
// a name, and the tool that is called names what is wrong then.
func serveFaulty(atStart string) {
	switch atStart {
	case "refuses":
		fmt.Fprintln(os.Stderr, "cannot open the vault: no key")
		syscall.Exit(3)
	case "banner":
		fmt.Print("Welcome!\n\nlistening on {stdio}\n")
	case "silent":
		note("silent")
		fmt.Fprintln(os.Stderr, "fetching the index")
		sleepForever()
	case "daemonizes":
		runInBackground(&syscall.SysProcAttr{Setsid: true}, nil)
	case "stubborn":
		go forkOnTerm()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Buffer(nil, 16<<20); lines.Scan(); {
		answerFaulty(lines.Bytes(), atStart)
	}
	if atStart == "stubborn" {
		note("eof")
		sleepForever()
	}
}

// answerFaulty answers one line.
func answerFaulty(line []byte, atStart string) {
	var r struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	if err := json.Unmarshal(line, &r); err != nil {
		fmt.Fprintln(os.Stderr, "no message:", string(line))
		syscall.Exit(9)
	}
	switch {
	case r.Method == "initialize":
		answerWith(r.ID, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"faulty","version":"1"}}`)
	case r.Method == "server/discover" && atStart == "discover":
		syscall.Exit(4)
	case r.Method == "server/discover":
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`+"\n", r.ID)
	case r.ID == nil:
	case r.Method == "tools/list":
		answerWith(r.ID, `{"tools":[]}`)
	default:
		callFaulty(r.Params.Name, r.ID)
	}
}

func answerWith(id json.RawMessage, result string) {
	fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", id, result)
}

// callFaulty does what the tool's name says. What has no fault answers with the process's number.
func callFaulty(tool string, id json.RawMessage) {
	note(tool)
	switch tool {
	case "dies":
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"half`, id)
		fmt.Fprintln(os.Stderr, "out of luck")
		syscall.Exit(3)
	case "waits":
		for released := false; !released; time.Sleep(5 * time.Millisecond) {
			_, err := os.Stat(filepath.Join(os.Getenv(notesName), "release"))
			released = err == nil
		}
	case "hangs":
		sleepForever()
	case "spins":
		for n := 0; ; n++ { // for ever
		}
	case "half":
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"half`, id)
		sleepForever()
	case "closes":
		_ = os.Stdout.Close() // and lives on
		sleepForever()
	case "huge":
		_ = flood(os.Stdout) // it is ended in the middle
		sleepForever()
	case "floods":
		_ = flood(os.Stderr)
	case "gushes":
		for flood(os.Stderr) == nil { // for ever
		}
	case "forks":
		for range 3 { // they hold its stdout open
			runInBackground(nil, os.Stdout)
		}
		syscall.Exit(0)
	case "split":
		for _, b := range fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"text":"é€😀"}}`+"\n", id) {
			_, _ = os.Stdout.Write([]byte{b})
		}
		return
	case "odd":
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"a":"\ud83d","b":"`+"\xe9"+`"}}`+"\n", id)
		return
	}
	answerWith(id, fmt.Sprintf(`{"pid":%d}`, os.Getpid()))
}

// note leaves a file for the test, where the entry says in which folder.
func note(what string) {
	if folder := os.Getenv(notesName); folder != "" {
		_ = os.WriteFile(filepath.Join(folder, what), nil, 0o600)
	}
}

func sleepForever() { time.Sleep(time.Hour) }

// flood writes 100 MB without a newline.
func flood(to *os.File) error {
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range 100 {
		if _, err := to.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// runInBackground leaves a process behind whose parent has ended.
func runInBackground(how *syscall.SysProcAttr, stdout *os.File) {
	cmd := exec.Command("sh", "-c", "sleep 3600 & exit 0")
	cmd.SysProcAttr = how
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// forkOnTerm answers each SIGTERM with another process.
func forkOnTerm() {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	for range terms {
		runInBackground(&syscall.SysProcAttr{Setsid: true}, nil)
	}
}
