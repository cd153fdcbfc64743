package daemon

import (
	_ "fluentd-perf/e2e"
	_ "fluentd-perf/internal/cache"
)
