package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"fluentd-perf/internal/upstream/stdio/process"
)

// The bounds of what is looked at of one command.
const (
	maxArguments = 128 // arguments
	maxStamps    = 32  // files
	maxFolders   = 4   // in which relative ones are looked for
)

// folderFlags are those after which relative arguments count from another directory: of uv and Bun, of make and git. --project of uv is
// the one where the program's project is.
var folderFlags = []string{"--directory", "--project", "--cwd", "-C"}

// Flags of interpreters, by what their value is, which is not the script that they run.
var (
	moduleFlags = []string{"-m", "--module"}                                                                // the module that Python runs
	scriptFlags = []string{"--import", "--require", "-r", "--loader", "--experimental-loader", "--preload"} // a script that runs before
	valueFlags  = slices.Concat(moduleFlags, scriptFlags, folderFlags, []string{"-W", "-X", "--conditions"})
)

// configWords are in the names of flags whose value is a file of settings; requirements say what is installed.
var configWords = []string{"config", "settings", "requirements", "env-file"}

// interpreters run the first of their arguments that is neither a flag nor its value. python3.12 is python.
var interpreters = []string{"node", "nodejs", "python", "bun", "deno"}

// endings are what an interpreter adds to the name of a script that is not there.
var endings = []string{".js", ".py", "/index.js", "/__main__.py"}

// dataEndings are those of files that a server writes itself. Were they looked at, each call would make it another server.
var dataEndings = []string{".db", ".sqlite", ".sqlite3", ".duckdb", ".log", ".jsonl", ".ndjson", ".pid"}

// textEndings are those of files that agents write, unless a flag says that they are settings.
var textEndings = []string{".json", ".md", ".csv", ".txt", ".yaml", ".yml"}

// onDisk names what the command is on disk now: its program, the exact version where that is npx and the package is installed, and its
// arguments that are files, which are scripts where the program is an interpreter. "" is one whose program is not there.
func (s *stdioServer) onDisk() string {
	version, _ := s.packageVersion()
	return s.onDiskWith(version)
}

// onDiskWith is onDisk where the package has that version; "": it has none.
func (s *stdioServer) onDiskWith(version string) string {
	program, err := process.LookPath(s.spec.Command[0], s.spec.Dir, s.spec.Env)
	if err != nil {
		return ""
	}
	files := []string{stamp(program)}
	if version != "" {
		files = append(files, version)
	}
	return strings.Join(append(files, stampsOf(s.spec.Command, s.spec.Dir)...), "\n")
}

// stampsOf returns the stamps of the files that the arguments of a command name.
func stampsOf(command []string, dir string) (stamps []string) {
	arguments := command[1:min(len(command), 1+maxArguments)]
	folders := foldersOf(arguments, dir)
	waits, known := isInterpreter(command[0]), false // for its script; which one that is
	for i, argument := range arguments {
		flag, value := flagOf(arguments, i)
		isScript := waits && !known && mayBeScript(argument, flag)
		known = known || isScript || slices.Contains(moduleFlags, flag)
		names := namesOf(flag, value, isScript || slices.Contains(scriptFlags, flag))
		for _, folder := range folders {
			one := stampOfFirst(folder, names)
			if one != "" && !slices.Contains(stamps, one) {
				stamps = append(stamps, one)
			}
			if len(stamps) == maxStamps {
				return stamps
			}
		}
		waits = waits || isInterpreter(argument) // uv run python server
	}
	return stamps
}

func isInterpreter(program string) bool {
	return slices.Contains(interpreters, strings.TrimRight(filepath.Base(program), "0123456789."))
}

// flagOf returns the value that an argument is or has, and the flag which it belongs to: --import=./hook.mjs and --import ./hook.mjs. That of
// a flag without a value is told of what follows it, too.
func flagOf(arguments []string, i int) (flag, value string) {
	flag, value, ok := strings.Cut(arguments[i], "=")
	if !ok || !strings.HasPrefix(flag, "-") {
		flag, value = "", arguments[i]
		if i > 0 && strings.HasPrefix(arguments[i-1], "-") && !strings.Contains(arguments[i-1], "=") {
			flag = arguments[i-1]
		}
	}
	return flag, strings.TrimPrefix(value, "file://")
}

// mayBeScript reports whether an argument of an interpreter is no flag, not the value of one, and not the run of Bun and Deno. What follows
// -c is there instead of a script.
func mayBeScript(argument, flag string) bool {
	return !strings.HasPrefix(argument, "-") && argument != "run" && !slices.Contains(valueFlags, flag) && (flag == "-c" || !isConfig(flag))
}

func isConfig(flag string) bool {
	return flag == "-c" || strings.HasPrefix(flag, "-") &&
		slices.ContainsFunc(configWords, func(word string) bool { return strings.Contains(flag, word) })
}

// namesOf returns the paths by which a value may name a file that belongs to the server, the first that is there counts. Only names of
// scripts are tried with endings: an index.js in a directory of data is data.
func namesOf(flag, value string, isScript bool) (names []string) {
	if slices.Contains(moduleFlags, flag) {
		module := strings.ReplaceAll(value, ".", "/")
		names = append(names, module+"/__main__.py", module+".py") // in this order
	}
	ending := strings.ToLower(filepath.Ext(value))
	if value == "" || slices.Contains(dataEndings, ending) || slices.Contains(textEndings, ending) && !isConfig(flag) {
		return names
	}
	names = append(names, value)
	if isScript {
		for _, ending := range endings {
			names = append(names, value+ending)
		}
	}
	return names
}

// foldersOf returns the directories in which a relative argument may be.
func foldersOf(arguments []string, dir string) []string {
	folders := []string{dir}
	for i, argument := range arguments {
		flag, value, ok := strings.Cut(argument, "=")
		if !ok && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		if value != "" && slices.Contains(folderFlags, flag) && len(folders) < maxFolders {
			folders = append(folders, under(dir, value))
		}
	}
	return folders
}

// under is a path that counts from a directory.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// stampOfFirst is the stamp of the first of the names that is a file, "" where none is.
func stampOfFirst(folder string, names []string) string {
	for _, name := range names {
		if one := stamp(under(folder, name)); one != "" {
			return one
		}
	}
	return ""
}

// stamp is what changes with a file, "" where it is none.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	inode := uint64(0)
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprint(path, " ", inode, " ", info.Size(), " ", info.ModTime().UnixNano())
}
