package cache

import (
	_ "fluentd-perf/internal/cache/redis"
	_ "github.com/redis/go-redis/v9"
)
