package http

import (
	_ "fluentd-perf/internal/config"
	_ "github.com/hashicorp/go-retryablehttp"
	_ "github.com/prometheus/client_golang/prometheus"
)
