package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// TestReasonsAreOutcomes holds that every reason of internal/mcp is counted under its own name: one that is in no list would
// panic at the first call that fails with it.
func TestReasonsAreOutcomes(t *testing.T) {
	source, err := os.ReadFile("../mcp/failure.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`(?m)^\tReason\w+ +Reason = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(reasons) < 20 {
		t.Fatalf("%d reasons were found", len(reasons))
	}
	for _, reason := range reasons {
		t.Run(string(reason[1]), func(t *testing.T) {
			reg := prometheus.NewRegistry()
			o := options(named(t, "s", "server.test", failing(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.Reason(reason[1])})))
			o.Metrics = proxy.NewMetrics(reg)
			h, err := proxy.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					t.Error(p)
				}
				if n := requestsOf(t, reg, "tools/list", string(reason[1])); n != 1 {
					t.Errorf("counted %v times, want once", n)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(listTools)))
		})
	}
}

// TestPanicIsCounted holds that a request that ended with a panic of a stage is not counted as ok.
func TestPanicIsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := options(named(t, "s", "server.test", func(context.Context, *mcp.Call) (*mcp.Result, error) { panic("planted") }))
	o.Metrics = proxy.NewMetrics(reg)
	h, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if p := recover(); p != "planted" {
				t.Errorf("the panic became %v", p)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(listTools)))
	}()
	if ok, broke := requestsOf(t, reg, "tools/list", "ok"), requestsOf(t, reg, "tools/list", "broke_off"); ok != 0 || broke != 1 {
		t.Errorf("counted %v times as ok, %v times as broke_off", ok, broke)
	}
}
