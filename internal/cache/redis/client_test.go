package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// TestTLS reaches the server through TLS, and does not where the certificate is not good.
func TestTLS(t *testing.T) {
	s := newServer(t)
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	url := fakeServer(t, func(c net.Conn) {
		secure := tls.Server(c, config)
		direct, err := net.Dial("unix", s.socket())
		if err != nil {
			return
		}
		defer direct.Close()
		go func() {
			_, _ = io.Copy(direct, secure)
			_ = direct.(*net.UnixConn).CloseWrite()
		}()
		_, _ = io.Copy(secure, direct)
	})
	url = "rediss" + strings.TrimPrefix(url, "redis")
	tier := newTier(t, url+"?skip_verify=true", newRecorder().listen)
	if !works(tier) {
		t.Error("it does not work over TLS")
	}
	eventually(t, "the link stands", tier.Linked)
	_, err := newTier(t, url).Read(context.Background(), newThing().lookups())
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate of nobody: %v", err)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestPool: many calls at once share the connections, and the metrics say so.
func TestPool(t *testing.T) {
	s := newServer(t)
	tier := newTier(t, s.url(), func(o *redis.Options) { o.Pool = 3 })
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			for range 5 {
				if !works(tier) {
					t.Error("it does not work")
				}
			}
		})
	}
	group.Wait()
	p := tier.PoolStats()
	if p.TotalConns < 1 || p.TotalConns > 3 || p.IdleConns != p.TotalConns || p.Misses < p.TotalConns || p.Misses+p.Hits < 600 || p.WaitCount == 0 {
		t.Errorf("got %+v", p)
	}
	clients := strings.Count(s.do("CLIENT", "LIST", "TYPE", "normal").(string), "\n") - 1 // the test's own
	if clients > 3 {
		t.Errorf("the server has %d connections of the tier", clients)
	}
}

// TestClientName: the server's operator sees whose the connections are, and a server that allows no names is used as well.
func TestClientName(t *testing.T) {
	s := newServer(t)
	named := func() int { return strings.Count(s.do("CLIENT", "LIST").(string), " name=fluentd-perf ") }
	tier := newTier(t, s.url(), newRecorder().listen)
	eventually(t, "the link stands", tier.Linked)
	if !works(tier) || named() != 2 {
		t.Errorf("%d connections have the name, want the pool's and the link's", named())
	}
	s.do("ACL", "SETUSER", "anonymous", "on", ">p", "allkeys", "allchannels", "+@all", "-client")
	unnamed := newTier(t, "unix://anonymous:p@"+s.socket(), newRecorder().listen)
	eventually(t, "the link stands", unnamed.Linked)
	if !works(unnamed) || named() != 2 {
		t.Errorf("without the right to a name it does not work, or has one: %d", named())
	}
}

// TestCollector registers the tier's series beside those of other pools.
func TestCollector(t *testing.T) {
	s := newServer(t)
	reg := prometheus.NewRegistry()
	shown := newTier(t, s.url(), func(o *redis.Options) { o.Pools = tier.NewPools(reg) })
	others := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_pool_connections_total",
		Help: "Connections that requests were given, new ones and reused ones.",
	}, []string{"pool", "reused"})
	others.WithLabelValues("docs", "true").Inc()
	reg.MustRegister(others)
	if !works(shown) {
		t.Fatal("it does not work")
	}
	got := tiertest.Series(t, reg)
	for name, want := range map[string]float64{
		"fluentd_perf_open_connections redis":             1,
		"fluentd_perf_idle_connections redis":             1,
		"fluentd_perf_active_connections redis":           0,
		"fluentd_perf_pool_connections_total redis false": 1,
		"fluentd_perf_pool_connections_total redis true":  5, // two of them again, for want of the script, or of the run id
		"fluentd_perf_pool_connections_total docs true":   1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
