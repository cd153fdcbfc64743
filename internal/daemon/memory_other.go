//go:build !linux

package daemon

// residentMemory is not known here: what is in memory is as Go's runtime has it from the system.
func residentMemory() (resident, bool) { return resident{}, false }

// giveBackFiles does nothing here.
func giveBackFiles() {}

// ownCgroupLimit is 0: this system has no cgroups.
func ownCgroupLimit() int64 { return 0 }
