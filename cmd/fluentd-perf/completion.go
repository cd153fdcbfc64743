package main

import (
	"time"

	"fluentd-perf/internal/api"

	"github.com/spf13/cobra"
)

// completionTimeout is how long a person who has pressed the tabulator waits for the daemon.
const completionTimeout = time.Second

// complete says how a shell completes the values of a flag.
func complete(c *cobra.Command, flag string, values cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic("a bug: " + err.Error()) // there is no such flag, or it has been said before
	}
}

// completeWords completes one of a few words.
func completeWords(c *cobra.Command, flag string, words ...string) {
	complete(c, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeFiles completes files that end so.
func completeFiles(c *cobra.Command, flag string, extensions ...string) {
	complete(c, flag, cobra.FixedCompletions(extensions, cobra.ShellCompDirectiveFilterFileExt))
}

// completeUpstreams completes the upstreams of the running daemon. Without one there is nothing to complete.
func completeUpstreams(c *cobra.Command, flag string, socket *socketFlag) {
	complete(c, flag, func(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		quick, names := *socket, []cobra.Completion{}
		quick.timeout = completionTimeout
		var answer api.Status
		if err := quick.ask(c, api.CallStatus, api.StatusParams{}, &answer); err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		for _, u := range answer.Upstreams {
			names = append(names, u.Upstream)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}
