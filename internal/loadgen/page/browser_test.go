package page_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen/page"
	"fluentd-perf/internal/mcptest"
)

// measuring writes into the document what a reader has before him. Scripts are let in for it, and nothing else.
const measuring = `<script>
setTimeout(() => {
  const root = document.documentElement, style = getComputedStyle(document.body), seen = (e) => e.getBoundingClientRect();
  const wide = Array.from(document.querySelectorAll("body *")).filter((e) => !e.closest(".scroll") && !e.closest("svg") && seen(e).right > root.clientWidth + 1);
  root.setAttribute("data-result", [innerWidth, root.scrollWidth - root.clientWidth, style.backgroundColor, style.color,
    Array.from(document.querySelectorAll("figure > svg")).filter((e) => seen(e).width > 200 && seen(e).height > 100).length,
    document.querySelectorAll("table").length, "too wide: " + wide.map((e) => e.tagName).join(" ")].join("|"));
}, 0);
</script>`

// TestBrowser opens a page as a file, on a phone and on a desk, in the light and in the dark: its width is the screen's, its colours are
// those of the hour, its charts are drawn, and nothing is asked of anybody.
func TestBrowser(t *testing.T) {
	text := write(t, page.Source{Name: "a", Report: whole()}, page.Source{Name: "b", Report: whole()})
	policy := regexp.MustCompile(`default-src (&#39;|')none(&#39;|')`)
	if len(policy.FindAllString(text, -1)) != 1 || !strings.Contains(text, "</body>") {
		t.Fatalf("%.1000s", text)
	}
	text = policy.ReplaceAllString(strings.Replace(text, "</body>", measuring+"</body>", 1), "default-src 'none'; script-src 'unsafe-inline'")
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	colours := []string{"rgb(20, 23, 28)|rgb(230, 233, 237)", "rgb(255, 255, 255)|rgb(27, 31, 36)"} // as preferredColorScheme counts
	for _, width := range []int{390, 1280} {
		for scheme, colour := range colours {
			out := mcptest.Browse(t, file, fmt.Sprintf("--window-size=%d,844", width), fmt.Sprintf("--blink-settings=preferredColorScheme=%d", scheme))
			got := regexp.MustCompile(`data-result="([^"]*)"`).FindSubmatch(out)
			if want := fmt.Sprintf("%d|0|%s|4|%d|too wide: ", width, colour, strings.Count(text, "<table")); got == nil || string(got[1]) != want {
				t.Errorf("%d wide: %s, want %s", width, got, want)
			}
		}
	}
}
