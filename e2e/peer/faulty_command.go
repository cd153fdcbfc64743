package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// faultyCommand is a server over stdin and stdout that answers what the one over HTTP does, for everybody alike, one message after the
// other. It takes as long for a call as that says, and is killed and stopped by signals.
func faultyCommand(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("command KEY")
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer nowhere.Close()
	f := &faulty{kind: "modern", key: args[0], journal: nowhere}
	return obey(func(line string) error {
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.ID == nil {
			return err
		}
		outcome := `"error":{"code":-32601,"message":"no such method"}`
		if m.Method == "initialize" {
			outcome = `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"faulty","version":"1"}}`
		} else if result, found := f.result(&m, ""); found {
			outcome = `"result":` + result
		}
		_, err := fmt.Printf(`{"jsonrpc":"2.0","id":%s,%s}`+"\n", m.ID, outcome)
		return err
	})
}
