"use strict";
// Frames are in the file each before those that it calls, with their place in a graph of 1200. All text is set as text.
(function () {
  const svg = document.documentElement, letter = 7.25, drawn = 1200;
  const about = document.getElementById("about"), legend = document.getElementById("legend");
  const frames = Array.from(document.querySelectorAll(".frame"), (g) => {
    const rect = g.querySelector("rect"), text = g.querySelector("text");
    const num = (name) => parseFloat(rect.getAttribute(name));
    return { g, rect, text, x: num("x") / drawn, w: num("width") / drawn, y: num("y"),
      title: g.querySelector("title").textContent, name: text.dataset.name };
  });
  const all = { x: 0, w: 1, y: -1 };
  let shown = all, width = drawn, words = "";

  function cut(name, room) {
    const n = Math.floor((room - 6) / letter), runes = Array.from(name);
    if (runes.length <= n) return name;
    return n < 3 ? "" : runes.slice(0, n - 1).join("") + "…";
  }

  // A frame is shown where it overlaps the one that is zoomed to: those above that one over the whole width.
  function place() {
    const scale = width / shown.w, slack = 2e-9; // places have ten digits
    for (const f of frames) {
      const inside = f.x >= shown.x - slack && f.x + f.w <= shown.x + shown.w + slack && f.y >= shown.y;
      const above = f.y < shown.y && f.x <= shown.x + slack && f.x + f.w >= shown.x + shown.w - slack;
      const x = above ? 0 : (f.x - shown.x) * scale, w = above ? width : f.w * scale;
      f.g.classList.toggle("hidden", !(inside || above) || w < 0.1);
      f.g.classList.toggle("above", above);
      if (!(inside || above)) continue;
      f.rect.setAttribute("x", x.toFixed(2));
      f.rect.setAttribute("width", Math.max(w - 0.4, 0.1).toFixed(2));
      f.text.setAttribute("x", (x + 3).toFixed(2));
      f.text.textContent = cut(f.name, w);
    }
    reset.disabled = shown.w >= 1;
  }

  function zoom(to) {
    shown = to.w > 0 ? to : all;
    place();
  }

  // What was found is a part of all: what is found below something found does not count twice.
  function search(text) {
    words = text.trim().toLowerCase();
    let sum = 0, until = 0;
    for (const f of frames) {
      const found = words !== "" && f.y > frames[0].y && f.title.split("\n")[0].toLowerCase().includes(words);
      f.g.classList.toggle("found", found);
      if (found && f.x + f.w > until + 1e-9) {
        sum += f.x + f.w - Math.max(f.x, until);
        until = f.x + f.w;
      }
    }
    say(words === "" ? "" : "found in " + (100 * sum).toFixed(1) + " % of all");
  }

  function say(text) { about.textContent = text || " "; }

  function tool(kind, set) {
    const e = document.createElementNS("http://www.w3.org/1999/xhtml", kind);
    Object.assign(e, set);
    e.className = "tool";
    box.append(e);
    return e;
  }

  const tools = document.getElementById("tools");
  const box = document.createElementNS("http://www.w3.org/2000/svg", "foreignObject");
  for (const [name, value] of [["y", 6], ["width", 310], ["height", 28]]) box.setAttribute(name, value);
  tools.append(box);
  const field = tool("input", { type: "search", placeholder: "search functions ( / )", size: 24 });
  const reset = tool("button", { type: "button", textContent: "reset zoom" });
  field.setAttribute("aria-label", "search functions");
  field.addEventListener("input", () => search(field.value));
  reset.addEventListener("click", () => zoom(all));

  for (const f of frames) {
    f.g.addEventListener("click", () => zoom(f));
    f.g.addEventListener("mouseenter", () => say(f.title.split("\n").slice(0, 3).join("   ")));
    f.g.addEventListener("mouseleave", () => search(words));
  }
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") {
      field.value = "";
      search("");
      zoom(all);
    } else if (e.key === "/" && document.activeElement !== field) {
      e.preventDefault();
      field.focus();
    }
  });

  function fit() {
    const height = svg.viewBox.baseVal.height;
    width = Math.max(600, window.innerWidth - 18);
    svg.setAttribute("width", width);
    svg.setAttribute("viewBox", "0 0 " + width + " " + height);
    box.setAttribute("x", width - 316);
    legend.classList.toggle("hidden", width < 340 + 580 + 316);
    place();
  }
  window.addEventListener("resize", fit);
  fit();
})();
