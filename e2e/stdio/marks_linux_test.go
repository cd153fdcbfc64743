package stdio

import (
	"fmt"
	"os"
	"strings"
)

// markName is the variable of an entry that finds its processes, and what those have started.
const markName = "FAULTY_MARK"

// notesName is the variable with the folder in which a server notes what it has begun to do: see peer stdio.
const notesName = "FAULTY_NOTES"

// marked returns the processes that an entry with that mark has, zombies left out.
func marked(mark string) (pids []int) {
	folders, _ := os.ReadDir("/proc")
	for _, f := range folders {
		var pid int
		if _, err := fmt.Sscan(f.Name(), &pid); err != nil {
			continue
		}
		environment, _ := os.ReadFile("/proc/" + f.Name() + "/environ")
		if strings.Contains("\x00"+string(environment), "\x00"+markName+"="+mark+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
