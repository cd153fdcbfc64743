package breaker

import (
	"errors"
	"net/url"

	"fluentd-perf/internal/mcp"
)

// describe is an error's text for the log. An error of net/http's names its URL, whose query may hold a secret.
func describe(err error) string {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err.Error()
	}
	text := ue.Op + ": " + describe(ue.Err)
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f.Message + " (" + string(f.Reason) + "): " + text
	}
	return text
}
