package main

import (
	_ "fluentd-perf/e2e"
	_ "fluentd-perf/internal/config"
	_ "fluentd-perf/internal/proxy"
	_ "github.com/prometheus/client_golang/prometheus"
)
