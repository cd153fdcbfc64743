package daemon

import (
	"context"
	"sync"

	"fluentd-perf/internal/mcp"
)

// opening is the wait of a pipeline for the environment of its command, which a login shell is still to make. The environment is part
// of what makes a server another one, by which its answers are kept: there are no stages, and no answer, before it is known. So its
// calls wait, and nothing else does, the daemon's readiness least of all.
type opening struct {
	begin sync.Once
	wait  sync.WaitGroup
	done  chan struct{} // closed when the pipeline is open
}

// openWhenKnown opens a pipeline of a command at once, or has beginOpening open it.
func (p *pipeline) openWhenKnown() {
	if p.entry.Stdio == nil {
		p.open()
		return
	}
	if e := p.processes.environments; e.waits(p.entry.Stdio) {
		p.opening = &opening{done: make(chan struct{})}
		return
	}
	p.environment, _ = p.processes.environments.Of(p.ctx, p.entry.Stdio) // which waits for nothing
	p.open()
}

// beginOpening opens the pipeline as soon as the environment of its command is known, unless it is closed before. Then, or at once, its
// package is installed.
func (p *pipeline) beginOpening() {
	if p.opening == nil {
		p.prepare()
		return
	}
	p.opening.begin.Do(func() {
		p.opening.wait.Go(func() {
			env, err := p.processes.environments.Of(p.ctx, p.entry.Stdio)
			if err != nil || p.ctx.Err() != nil {
				return
			}
			p.environment = env
			p.open()
			close(p.opening.done)
			p.prepare()
		})
	})
}

// endOpening waits until the pipeline is open or will never be. Its ctx has ended.
func (p *pipeline) endOpening() {
	if p.opening != nil {
		p.opening.wait.Wait()
	}
}

// isOpen reports whether the pipeline has its servers and stages.
func (p *pipeline) isOpen() bool {
	if p.opening == nil {
		return true
	}
	select {
	case <-p.opening.done:
		return true
	default:
		return false
	}
}

// whenOpen has calls wait until the pipeline is open. of returns one of its stages.
func (p *pipeline) whenOpen(of func() mcp.Caller) mcp.Caller {
	if p.isOpen() {
		return of()
	}
	return mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		select {
		case <-p.opening.done:
			return of().Call(ctx, c)
		case <-ctx.Done():
			return nil, mcp.Canceled(ctx, mcp.SentNo)
		}
	})
}
