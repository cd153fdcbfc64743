package redis_test

import (
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
)

func TestValidate(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:6379/0":               "",
		"redis://localhost":                      "",
		"redis://user:s3cret@[::1]:6379/15":      "",
		"rediss://host?skip_verify=true&db=2":    "",
		"unix:///run/redis.sock?db=1":            "",
		"":                                       "scheme",
		"127.0.0.1:6379":                         "not a URL",
		"http://127.0.0.1:6379":                  "scheme",
		"redis://":                               "no host",
		"redis://user:s3cret@":                   "no host",
		"redis://user:s3cret@host:port":          "not a URL",
		"redis://:s3cret@host/0#x":               "fragment",
		"redis://:s3cret@host/zero":              "database",
		"redis://:s3cret@host/-1":                "database",
		"redis://:s3cret@host/1/2":               "path",
		"redis://:s3cret@host?db=many":           "database",
		"redis://:s3cret@host?read_timeout=1s":   "read_timeout",
		"redis://:s3cret@host?pool_size=5":       "pool_size",
		"redis://:s3cret@host?skip_verify=true":  "skip_verify",
		"rediss://:s3cret@host?skip_verify=perh": "skip_verify",
		"unix://run/redis.sock":                  "three slashes",
		"unix://:s3cret@":                        "path",
	} {
		err := redis.Options{URL: url}.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the password is in %v", url, err)
		}
	}
}

func TestValidateSizes(t *testing.T) {
	good := redis.Options{URL: "redis://h", Prefix: "p", Timeout: time.Second, Pool: 1, MaxValue: 1}
	for want, change := range map[string]func(*redis.Options){
		"timeout":              func(o *redis.Options) { o.Timeout = -1 },
		"and 10s":              func(o *redis.Options) { o.Timeout = time.Minute },
		"pool":                 func(o *redis.Options) { o.Pool = -1 },
		"and 1024":             func(o *redis.Options) { o.Pool = 2000 },
		"the size of an entry": func(o *redis.Options) { o.MaxValue = 1 << 30 },
		"prefix":               func(o *redis.Options) { o.Prefix = "" },
		"letters":              func(o *redis.Options) { o.Prefix = "a:*" },
	} {
		o := good
		change(&o)
		if _, err := redis.NewTier(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := (redis.Options{Timeout: -1, Pool: -1}).Validate(); strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v, want three faults at once", err)
	}
}
