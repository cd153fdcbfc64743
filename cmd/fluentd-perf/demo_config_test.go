package main

import (
	"os"
	"slices"
	"testing"
)

// TestDemoConfig: the demo has its server at an address, and as a command of this very program.
func TestDemoConfig(t *testing.T) {
	cfg, err := demoConfig("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if byHTTP, command := cfg.Upstreams[0], cfg.Upstreams[1].Stdio; byHTTP.Name != "demo" || byHTTP.Stdio != nil || !slices.Equal(command.Command, []string{program, demoServerVerb}) {
		t.Errorf("upstreams %v", cfg.Upstreams)
	}
}
