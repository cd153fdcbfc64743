package relay

import (
	_ "fluentd-perf/e2e/cache"
	_ "fluentd-perf/e2e/harness"
)
