// Package login finds the environment that a person's login shell makes. Under a service manager or a desktop the daemon's own is
// not that one: nvm, fnm, Volta, asdf, mise and uv write to the files with which a shell starts, and without those npx and uvx are
// not found.
//
// The user's shell is run as a login shell that is interactive, and starts this binary, which writes the environment that it was
// given to a file (PrintIfAsked). So it does not matter what start files print. The shell has no terminal and no input, a session
// of its own and 5 s. Where it does not get as far as that it is run again without being interactive, and where that fails too, the
// daemon's own environment has to do, with the directories appended to PATH in which people have programs.
//
// It promises that nothing is left of a run: what start files started (an agent, a multiplexer, a job) ends with the shell, as a
// server's processes do (package process); that the file is the user's alone and goes with the run; and that memory is bounded.
// Which server gets what of the environment is others' business.
package login
