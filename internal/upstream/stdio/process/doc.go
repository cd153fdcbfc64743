// Package process runs the commands of stdio servers. It knows their processes, pipes and limits, and nothing of what is said
// over the pipes.
//
// On Linux a guard is the parent of every server: the same binary in a process of its own, which stays when the daemon is killed.
// The daemon sends it what to start and the child's ends of three pipes over a socketpair, and gets back pid, pidfd and,
// at once, the exit. The guard is a subreaper, so what leaves its group and its session is still its descendant. It promises:
//
//   - A Process is Gone only when nothing is left of its start: the leader, its group, its session, what descends from them, and
//     what has the start's mark in its environment. Zombies are reaped in the guard and nowhere else.
//   - When the daemon ends, however it ends, everything that the guard ever started ends within a second.
//   - When the guard ends, the daemon ends what it had started, reports those processes as lost and starts another at need.
//   - No pipe's end stays in the guard or comes to another server: end of file arrives.
//
// Out of reach is what no process can find: a container started through `docker run` belongs to docker's daemon and has its
// client's end of file and SIGTERM only. A process that forked twice, has a session of its own and an emptied environment cannot
// be told from another server's; it ends when no server is left at all, or with the daemon.
//
// On other systems there is no guard: each command has a process group, which ends with an orderly daemon, and a killed one
// leaves what ignores end of file.
package process
