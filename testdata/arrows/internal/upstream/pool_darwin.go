package upstream

import (
	_ "fluentd-perf/cmd/fluentd-perf"
)
