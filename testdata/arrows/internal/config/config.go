package config

import (
	_ "fluentd-perf/internal/mcptest"
	_ "fluentd-perf/internal/proxy"
)
