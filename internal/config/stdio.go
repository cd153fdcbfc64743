package config

import "time"

// Stdio is a server that is a command: the daemon starts it and speaks with it over stdin and stdout.
type Stdio struct {
	Command    []string          // the program and its arguments, at least one word; no shell reads them
	Env        map[string]Secret // variables of its own; they win over what it gets of the daemon's environment
	Cwd        string            // absolute
	InheritEnv []string          // variables of the daemon's that it gets besides the usual ones: names, or patterns of path.Match
	AllowUsers []User            // who may use it beside the daemon's own user and root
	Resolve    bool              // an npx command's package is installed and run without npx
	Processes  Processes
}

// User is a user of this machine.
type User struct {
	Name string // as it is written, which may be the number
	UID  uint32
}

// String returns the name.
func (u User) String() string { return u.Name }

// Processes bound those of one server.
type Processes struct {
	Max         int           // of sessions, at least 1
	Warm        int           // that are started ahead of a session, 0 for none
	Lazy        bool          // a session whose initialize is remembered has none before it needs one
	Replicas    int           // of a server without sessions, from 1 to Max
	IdleTimeout time.Duration // how long one that nobody uses stays, above 0
	Memory      int64         // bytes for one and all that it starts, 0 for no limit
	Tasks       int           // processes and threads of one start, 0 for no limit
	Refresh     time.Duration // how old a resolved version may be before it is looked up again, above 0
}

// AllProcesses bound those of all servers.
type AllProcesses struct {
	Total            int           // at least 1
	StartConcurrency int           // how many start at once, at least 1
	StartTimeout     time.Duration // how long a start may take, above 0
	Path             SearchPath    // where commands are looked for

	allowSystem bool // there may be commands with Sources.SystemUnit, too
}

// SearchPath says where commands are looked for, and with that whose environment they start from.
type SearchPath struct {
	Source      PathSource
	Directories []string // absolute, in their order; with PathList
}

// String returns the word or the directories; "" where nothing is said.
func (p SearchPath) String() string {
	if p.Source == PathList {
		return joined(p.Directories, quoteMeta)
	}
	return string(p.Source)
}

// PathSource is where a PATH comes from.
type PathSource string

// The sources. None is PathLogin under a service manager or a desktop; elsewhere it is PathInherit, and PathLogin for what is not
// found.
const (
	PathLogin   PathSource = "login"   // the environment that the user's login shell makes
	PathInherit PathSource = "inherit" // the daemon's own
	PathList    PathSource = "list"    // the configuration; all else is the daemon's own
)
