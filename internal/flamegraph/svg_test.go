package flamegraph_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"fluentd-perf/internal/flamegraph"
	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// drawn returns a graph as text, which has to be XML.
func drawn(t *testing.T, p *flamegraph.Profile) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b, flamegraph.Options{Title: "a <title>", Notes: []string{"one & two", "three", "not shown"}, Main: "fluentd-perf"}); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		token, err := d.Token()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatalf("it is no XML: %v\n%s", err, b.String())
		}
		if e, ok := token.(xml.StartElement); ok {
			quiet(t, e)
		}
	}
}

// quiet holds that an element fetches nothing, and does nothing by itself.
func quiet(t *testing.T, e xml.StartElement) {
	t.Helper()
	for _, a := range e.Attr {
		name := strings.ToLower(a.Name.Local)
		if strings.HasPrefix(name, "on") || name == "href" || name == "src" || name == "style" || strings.Contains(a.Value, "url(") {
			t.Errorf("<%s %s=%q>", e.Name.Local, name, a.Value)
		}
	}
	switch e.Name.Local {
	case "svg", "style", "script", "title", "g", "rect", "text":
	default:
		t.Errorf("an element <%s>", e.Name.Local)
	}
}

// frames returns the frames of a graph, as class, title, x and width.
func frames(text string) (all [][]string) {
	for _, m := range regexp.MustCompile(`(?s)<g class="frame (\w+)"[^>]*><title>(.*?)</title><rect x="([\d.]+)" y="\d+" width="([\d.]+)"`).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1:])
	}
	return all
}

// TestWrite holds where frames are, and of what colour.
func TestWrite(t *testing.T) {
	got := frames(drawn(t, parsed(t, map[string]int64{
		"fluentd-perf/internal/mcp.Scan": 30e9, "net/http.(*conn).serve runtime.mallocgc": 15e9, "github.com/x/y/v2.F[...]": 10e9, "main.main": 5e9,
	})))
	want := []string{"root all 0 1200", "own fluentd-perf/internal/mcp.Scan 0 600", "standard net/http.(*conn).serve 600 300",
		"runtime runtime.mallocgc 600 300", "others github.com/x/y/v2.F[...] 900 200", "own main.main 1100 100"}
	var list []string
	for _, f := range got {
		title, _, _ := strings.Cut(f[1], "&#xA;")
		list = append(list, fmt.Sprintf("%s %s %s %s", f[0], title, strings.TrimSuffix(f[2], ".000"), strings.TrimSuffix(f[3], ".000")))
	}
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	if len(got) == 6 && got[1][1] != "fluentd-perf/internal/mcp.Scan&#xA;30 s of 60 s (50.0 %)&#xA;/src/fluentd-perf/internal/mcp.Scan.go" {
		t.Errorf("%q", got[1][1])
	}
	if text := drawn(t, parsed(t, nil)); len(frames(text)) != 0 {
		t.Errorf("an empty profile: %s", text)
	}
}

// TestCompared holds the colours of a comparison: red where the part of all has grown, whatever all is.
func TestCompared(t *testing.T) {
	p := parsed(t, map[string]int64{"main.same": 50, "main.more": 40, "main.less": 10})
	p.Compare(parsed(t, map[string]int64{"main.same": 100, "main.more": 20, "main.less": 60, "main.gone": 20}))
	text := drawn(t, p)
	for name, fill := range map[string]string{"main.same": "rgb(255,255,255)", "main.more": "rgb(255,65,65)", "main.less": "rgb(85,85,255)"} {
		if !regexp.MustCompile(`fill="` + regexp.QuoteMeta(fill) + `"><title>` + name).MatchString(text) {
			t.Errorf("%s is not %s:\n%s", name, fill, text)
		}
	}
	if strings.Contains(text, "main.gone") || !strings.Contains(text, "before: 20 ns (10.0 %)") {
		t.Errorf("%s", text)
	}
}

// hostile are names that try to be something else than text.
var hostile = []string{
	`main.a</title><script>alert(1)</script>`, `main.b]]><script>alert(1)</script>`, `main.c"onload="alert(1)`, `main.d'><image href='http://192.0.2.1/'/>`,
	"main.e\u202e\u0000\u001b[31m", "main.f&amp;&lt;&#60;", "main.g\xff\xfe", "main." + strings.Repeat("h", 5000),
}

// TestHostile holds that names are text, whatever is in them.
func TestHostile(t *testing.T) {
	samples := make(map[string]int64)
	for i, name := range hostile {
		samples[name] = int64(i + 1)
	}
	text := drawn(t, parsed(t, samples))
	if n := strings.Count(text, "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	if strings.ContainsAny(text, "\u202e\x00\x1b") || len(text) > 60_000 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

// TestBounds holds that what is drawn is bounded, and shows the largest.
func TestBounds(t *testing.T) {
	samples := map[string]int64{"main.large": 1e6, strings.Repeat("main.deep main.er ", 400): 1e6}
	for i := range 9_000 {
		samples[fmt.Sprintf("main.a%d main.b", i)] = int64(i + 1)
	}
	text := drawn(t, parsed(t, samples))
	if n := len(frames(text)); n > 8000 || n < 7000 {
		t.Errorf("%d frames", n)
	}
	if !strings.Contains(text, "main.large") || strings.Contains(text, "main.a10&#") || strings.Count(text, ">main.deep&#") > 128 {
		t.Error("not the largest frames")
	}
}

// TestEqualFrames: of more frames that took the same than are drawn, as many are drawn as may be, and it is said how many are left out.
func TestEqualFrames(t *testing.T) {
	samples := map[string]int64{}
	for i := range 9_000 {
		samples[fmt.Sprintf("main.a%d", i)] = 1
	}
	text := drawn(t, parsed(t, samples))
	if n := len(frames(text)); n != 8000 || !strings.Contains(text, "1001 of 9001 frames are left out") {
		t.Errorf("%d frames", n)
	}
	samples["main.large main.b"] = 7
	if text := drawn(t, parsed(t, samples)); len(frames(text)) != 8000 || !strings.Contains(text, "main.large") || !strings.Contains(text, "1003 of 9003") {
		t.Errorf("%d frames", len(frames(text)))
	}
	if text := drawn(t, parsed(t, map[string]int64{"main.a": 1})); strings.Contains(text, "left out") {
		t.Error("a small graph lacks something")
	}
}

// doing is what a user does in the graph. What it leads to is written into the note, behind "result:".
const doing = `<script><![CDATA[
window.addEventListener("error", (e) => document.documentElement.setAttribute("data-error", e.message));
setTimeout(() => {
  const frames = Array.from(document.querySelectorAll(".frame")), said = [];
  const named = (name) => frames.find((g) => g.querySelector("text").dataset.name === name);
  const show = (what) => said.push(what + ": " + frames.filter((g) => !g.classList.contains("hidden")).map((g) =>
    g.querySelector("text").dataset.name + (g.classList.contains("found") ? "!" : "") + (g.classList.contains("above") ? "^" : "") +
    " " + Math.round(1000 * g.querySelector("rect").width.baseVal.value / document.documentElement.width.baseVal.value)).join(", "));
  const field = document.querySelector("input"), reset = document.querySelector("button");
  show("all");
  named("main.b").dispatchEvent(new MouseEvent("click"));
  show("zoomed");
  reset.click();
  show("reset");
  field.value = "MAIN.C";
  field.dispatchEvent(new Event("input"));
  said.push(document.getElementById("about").textContent);
  show("found");
  named("main.b").dispatchEvent(new MouseEvent("mouseenter"));
  said.push(document.getElementById("about").textContent);
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  show("escaped");
  document.documentElement.setAttribute("data-result", said.join("|"));
}, 0);
]]></script></svg>`

// browsed opens a graph as a file, as a user does, with a script that uses it, and returns the result. Nothing is asked of anybody.
func browsed(t *testing.T, text, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "graph.svg")
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(strings.TrimSpace(text), "</svg>")+script), 0o644); err != nil {
		t.Fatal(err)
	}
	out := mcptest.Browse(t, file, "--window-size=1218,800")
	got := regexp.MustCompile(`data-result="([^"]*)"`).FindSubmatch(out)
	if got == nil || bytes.Contains(out, []byte(`data-error="`)) {
		t.Fatalf("no result: %.3000s", out)
	}
	return string(got[1])
}

// TestBrowser uses a graph in Chromium.
func TestBrowser(t *testing.T) {
	samples := map[string]int64{"main.a main.b main.c": 30, "main.a main.d": 30, "main.c main.c": 40}
	samples[hostile[0]] = 20
	got := browsed(t, drawn(t, parsed(t, samples)), doing)
	const all = "all 1000, main.a 500, main.b 250, main.c 250, main.d 250, main.c 333, main.c 333, main.a&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt; 166"
	want := strings.Join([]string{
		"all: " + all, "zoomed: all^ 1000, main.a^ 1000, main.b 1000, main.c 1000", "reset: " + all, "found in 58.3 % of all",
		"found: " + strings.ReplaceAll(all, "main.c", "main.c!"), "main.b   30 ns of 120 ns (25.0 %)   /src/main.b.go", "escaped: " + all,
	}, "|")
	if got != want {
		t.Errorf("%s\nwant\n%s", strings.ReplaceAll(got, "|", "\n"), strings.ReplaceAll(want, "|", "\n"))
	}
}

// TestZoomIntoTheSmallest: a frame that takes a part in ten million of all is shown alone, with what it calls in the right places.
func TestZoomIntoTheSmallest(t *testing.T) {
	samples := map[string]int64{"main.large": 1e9, "main.b main.c": 20, "main.b main.d": 80}
	for i := range 9 {
		samples[fmt.Sprintf("main.a%d", i)] = 100
		samples[fmt.Sprintf("main.c%d", i)] = 100
	}
	show, _, _ := strings.Cut(doing, `show("all")`)
	got := browsed(t, drawn(t, parsed(t, samples)), show+`named("main.b").dispatchEvent(new MouseEvent("click"));
  show("zoomed");
  document.documentElement.setAttribute("data-result", said.join("|"));
}, 0);
]]></script></svg>`)
	if want := "zoomed: all^ 1000, main.b 1000, main.d 800, main.c 200"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
