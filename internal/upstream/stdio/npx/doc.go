// Package npx runs the packages of npx commands without npx. npx asks its registry at each start, also for what it has, and leaves
// two processes of its own above the server. Here a package is installed once into a folder of the daemon's cache, and its program is
// run from there.
//
// What runs is what npx would have run. It looks into the local tree, the workspaces and the global packages before it asks a registry
// (npm's libnpmexec), and a project's .npmrc may say which registry that is: where any of them could have a word, a command is run as it
// is written, and the reason is told (AsWritten). So a package of a private registry is never looked for in a public one.
//
// It promises:
//
//   - One install of a package at a time, over all daemons that share the cache folder; an install belongs to no caller, and goes on
//     when all of them have left.
//   - npm does not get the variables that the entry has by itself: what runs while a package is installed does not see its secrets.
//   - An install is there when its record says so, and a record is whole or not there. What is there is used when the registry is away.
//   - A folder that a process runs from is not touched, by no daemon.
//
// How a command is started is the caller's business; here it is decided which.
package npx
