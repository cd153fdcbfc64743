package api

// Memory says where the memory of the daemon's own process is.
type Memory struct {
	RSS     int64          `json:"rss"`     // bytes in memory; 0: not known on this system
	Limit   int64          `json:"limit"`   // of Go's runtime, from the cgroup or the operator; 0: there is none
	Ballast int64          `json:"ballast"` // of the heap, never touched: in no sum here
	Parts   []MemoryPart   `json:"parts"`   // which add up to RSS
	Holders []MemoryHolder `json:"holders"` // what keeps objects and stacks; they are no sum
}

// MemoryPart is one part of a process's memory.
type MemoryPart struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// The parts of a process's memory.
const (
	MemoryProgram = "program"              // its own pages, as far as they have been used; 0: not known on this system
	MemoryObjects = "objects"              // of Go's heap, in use
	MemoryFree    = "free"                 // of Go's heap: for the next objects
	MemoryStacks  = "stacks"               // of goroutines
	MemoryRest    = "runtime and database" // what Go's runtime has for itself, and the embedded database
)

// MemoryHolder is one sort of what keeps memory.
type MemoryHolder struct {
	Name  string `json:"name"`
	Count int64  `json:"count"` // -1: not known
	Bytes int64  `json:"bytes"` // -1: not known
}
