package mcp_test

import (
	_ "fluentd-perf/internal/mcp"
	_ "fluentd-perf/internal/mcptest"
	_ "github.com/go-json-experiment/json/jsontext"
)
