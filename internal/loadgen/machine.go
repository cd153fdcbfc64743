package loadgen

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// ThisMachine returns what is known of where the program runs.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS, CPUs: runtime.GOMAXPROCS(0)}
	if runtime.GOOS != "linux" {
		return m
	}
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	m.CPU = valueIn("/proc/cpuinfo", "model name")
	m.Governor = firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	kilobytes, _, _ := strings.Cut(valueIn("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.ParseInt(kilobytes, 10, 64); err == nil {
		m.Memory = n << 10
	}
	for i, field := range strings.Fields(firstLine("/proc/loadavg")) {
		if load, err := strconv.ParseFloat(field, 64); err == nil && i < 3 {
			m.LoadAvg = append(m.LoadAvg, load)
		}
	}
	return m
}

// firstLine returns the first line of a file; "" where it cannot be read.
func firstLine(file string) string {
	text, _ := os.ReadFile(file) // what is not known is left out
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// valueIn returns what a file of "name: value" lines has first for a name.
func valueIn(file, name string) string {
	text, _ := os.ReadFile(file) // the same
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
