package breaker

import (
	"errors"
	"log/slog"
	"net/url"

	"fluentd-perf/internal/mcp"
)

// silent is the log of whoever has none.
var silent = slog.New(slog.DiscardHandler)

// words are what the log says when a breaker closes, opens, and at every other change.
type words struct{ works, fails, tried string }

// announcer returns what makes changes known.
func announcer(g gauge, log *slog.Logger, w words) func(change) {
	show(g, Closed) // one of the name that was replaced may have left another state
	return func(c change) {
		show(g, c.to)
		switch {
		case c.to == Closed:
			log.Info(w.works)
		case c.from == Closed:
			log.Warn(w.fails, slog.String("error", describe(c.err)))
		default: // that an open breaker is tried is no news
			log.Debug(w.tried, slog.String("state", c.to))
		}
	}
}

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
