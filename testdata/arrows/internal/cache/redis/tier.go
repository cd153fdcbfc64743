package redis

import (
	_ "fluentd-perf/internal/cache"
	_ "github.com/redis/go-redis/v9"
)
