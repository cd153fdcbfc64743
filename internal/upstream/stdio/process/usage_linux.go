package process

import (
	"os"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every architecture that Go knows.
const clockTick = time.Second / 100

// Usage returns what each Process that is not gone takes. It reads the whole process table; proportional adds a walk through
// the mappings of every process of a server, which takes milliseconds for a large one.
func (g *Guard) Usage(proportional bool) map[*Process]Usage {
	all, leaders := map[uint64]*Process{}, map[int]uint64{}
	for _, p := range g.Processes() {
		all[p.id], leaders[p.pid] = p, p.id
	}
	used := make(map[*Process]Usage, len(all))
	table, err := guard.ProcessTable(nil)
	if err != nil || len(all) == 0 {
		return used
	}
	guard.Owners{Leaders: leaders, Root: g.host.pid()}.Assign(table)
	for _, e := range table {
		p := all[e.Owner]
		if p == nil || e.Zombie() {
			continue
		}
		u := used[p]
		u.Processes++
		u.RSS += e.Pages * int64(os.Getpagesize())
		u.CPU += time.Duration(e.Ticks) * clockTick
		if proportional {
			u.PSS += proportionalSize(e.PID)
		}
		used[p] = u
	}
	return used
}

// proportionalSize returns a process's PSS in bytes, 0 where it cannot be read.
func proportionalSize(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "Pss:" {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
