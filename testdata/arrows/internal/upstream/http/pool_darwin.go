package http

import (
	_ "fluentd-perf/cmd/fluentd-perf"
)
