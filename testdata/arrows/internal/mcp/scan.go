package mcp

import (
	_ "fluentd-perf/internal/proxy"
	_ "github.com/go-json-experiment/json/jsontext"
	_ "io"
)
