package proxy

import (
	_ "fluentd-perf/internal/mcp"
	_ "fluentd-perf/internal/mcptest"
	_ "fluentd-perf/internal/session"
	_ "github.com/go-chi/chi/v5"
)
