package config

import (
	"fmt"
	"strconv"
	"time"
)

// resilienceDiffers says by differs what of limits, breaker, retries, sessions and batches is not as in is.
func (u Upstream) resilienceDiffers(is Upstream, differs func(name, value, usual string)) {
	times := func(name string, value, usual time.Duration) {
		differs(name, formatDuration(value), formatDuration(usual))
	}
	counts := func(name string, value, usual int) { differs(name, strconv.Itoa(value), strconv.Itoa(usual)) }
	shares := func(name string, value, usual float64) { differs(name, shareText(value), shareText(usual)) }
	differs("protocol", string(u.Protocol), string(is.Protocol))
	counts("limits.max_in_flight", u.Limits.MaxInFlight, is.Limits.MaxInFlight)
	counts("limits.queue", u.Limits.Queue, is.Limits.Queue)
	times("limits.queue_wait", u.Limits.QueueWait, is.Limits.QueueWait)
	if u.Breaker.Off {
		differs("breaker", "off", "")
	} else {
		times("breaker.window", u.Breaker.Window, is.Breaker.Window)
		counts("breaker.min_requests", u.Breaker.MinRequests, is.Breaker.MinRequests)
		shares("breaker.failure_ratio", u.Breaker.FailureRatio, is.Breaker.FailureRatio)
		counts("breaker.in_a_row", u.Breaker.InARow, is.Breaker.InARow)
		times("breaker.slow_call", u.Breaker.SlowCall, is.Breaker.SlowCall)
	}
	counts("retry.max", u.Retry.Max, is.Retry.Max)
	shares("retry.budget", u.Retry.Budget, is.Retry.Budget)
	differs("retry.hedge", fmt.Sprint(u.Retry.Hedge), fmt.Sprint(is.Retry.Hedge))
	differs("retry.tools", patternsText(u.Retry.Tools), patternsText(is.Retry.Tools))
	differs("retry.methods", patternsText(u.Retry.Methods), patternsText(is.Retry.Methods))
	differs("sessions.heal", string(u.Sessions.Heal), string(is.Sessions.Heal))
	if u.Batch.Max > 0 {
		differs("batch", fmt.Sprintf("%d within %s", u.Batch.Max, formatDuration(u.Batch.Window)), "")
	}
}

func shareText(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
