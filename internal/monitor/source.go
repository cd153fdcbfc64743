package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fluentd-perf/internal/api"
)

// answerTimeout is how long a daemon may take for one answer.
const answerTimeout = 5 * time.Second

// processInterval is how often the process table is read.
const processInterval = 5 * time.Second

// maxCalls is how many calls under way of each upstream are asked for; the one that is open has as many as the daemon tells.
const maxCalls = 20

// daemonSource asks a daemon. It finds it again when it is another one, or was away. One goroutine at a time may ask for samples, and one
// for requests.
type daemonSource struct {
	samples, requests client
	processes         time.Time // when they were asked for last
}

func newDaemonSource(places []api.Place) *daemonSource {
	return &daemonSource{samples: client{places: places}, requests: client{places: places}}
}

// client makes calls one after the other.
type client struct {
	places []api.Place
	socket string // "": to be found
}

// next returns what the daemon's counters are now. upstream is the one that is looked at closely, "" for none.
func (d *daemonSource) next(ctx context.Context, upstream string) (*api.Sample, error) {
	params := api.SampleParams{Calls: maxCalls, Upstream: upstream, Processes: time.Since(d.processes) >= processInterval}
	s := new(api.Sample)
	if err := d.samples.ask(ctx, api.CallSample, params, s); err != nil {
		d.processes = time.Time{}
		return nil, explain(err)
	}
	if params.Processes {
		d.processes = time.Now()
	}
	return s, nil
}

// request returns the request of a call under way.
func (d *daemonSource) request(ctx context.Context, upstream, id string) (api.Request, error) {
	var r api.Request
	err := d.requests.ask(ctx, api.CallRequest, api.RequestParams{Upstream: upstream, Request: id}, &r)
	return r, err
}

// ask makes one call. Where nobody answers at the socket that was found before, it is looked for once more, next time.
func (c *client) ask(ctx context.Context, call string, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout,
		fmt.Errorf("no answer within %v: the daemon is suspended, or too busy to answer", answerTimeout))
	defer cancel()
	if c.socket == "" {
		path, err := api.Find(ctx, c.places)
		if err != nil {
			return err
		}
		c.socket = path
	}
	err := api.Call(ctx, c.socket, call, in, out)
	if refused := (*api.RefusedError)(nil); err != nil && !errors.As(err, &refused) {
		c.socket = ""
	}
	return err
}

// explain adds to a daemon's refusal what is to be done.
func explain(err error) error {
	if refused := (*api.RefusedError)(nil); errors.As(err, &refused) && refused.Status == 404 {
		return fmt.Errorf("the daemon is older than this program and cannot be watched: restart it (%w)", err)
	}
	return err
}
