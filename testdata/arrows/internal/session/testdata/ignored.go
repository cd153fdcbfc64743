package ignored

import (
	_ "fluentd-perf/internal/proxy"
)
