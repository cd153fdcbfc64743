package proxy_test

import (
	_ "fluentd-perf/internal/mcptest"
	_ "fluentd-perf/internal/upstream/http"
	_ "github.com/prometheus/client_golang/prometheus/testutil"
)
