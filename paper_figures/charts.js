/* Charts of the report, drawn as SVG from the rows inside the page. No library.
 *
 * One panel per scale and setting. Every mark knows its row; the nearest mark to the pointer is the one described.
 * A panel is one stop of the Tab key; arrow keys move between its marks. Panels are drawn at the size they have on
 * the screen and scaled on paper. `tip` (page.js) shows the description of whatever has `data-tip`.
 */
"use strict";
(function () {
  const source = document.getElementById("chart-data");
  const frame = document.getElementById("charts");
  if (!source || !frame) return;

  const { amount, rate, interval, count, node, element, shape, ticks, range } = window.plot;
  const MARGIN = { left: 52, right: 14, top: 10, bottom: 40 };
  const REACH = 32; // Pixels within which the pointer finds a mark.

  const scales = JSON.parse(source.textContent).scales.map((scale) => ({
    ...scale, curves: unpacked(scale.curves), tradeoff: unpacked(scale.tradeoff),
  }));
  const first = scales[0];
  const axes = [...new Map(scales.flatMap((s) => s.axes).map((a) => [a.axis, a])).values()];
  const settings = [...new Map(scales.flatMap((s) => s.settings).map((s) => [s.study, s])).values()];
  const state = {
    axis: axes.length ? axes[0].axis : "", against: "forgetting", swept: false,
    off: new Set(scales.slice(1).map((scale) => "scale " + scale.name)),
  };

  function unpacked(packed) {
    return packed.rows.map((values) => Object.fromEntries(packed.columns.map((name, i) => [name, values[i]])));
  }

  // ------------------------------------------------------------------ words

  function heading(scale, setting, row) {
    const arm = scale.arms.find((each) => each.arm === row.arm);
    const where = scales.length > 1 ? `${setting.title}, ${scale.name}` : setting.title;
    return `${arm ? arm.label : "base"} · ${where}`;
  }

  function training(setting, row) {
    const speed = rate(row.lr);
    return `${Number(row.length).toLocaleString("en")} ${setting.unit}` + (speed ? ` · rate ${speed}` : "");
  }

  function curveWords(scale, setting, row) {
    return [
      heading(scale, setting, row), training(setting, row),
      `${setting.quantities[row.axis]}: ${interval(row.value, row.low, row.high)}`,
      row.base === null ? null : `base ${amount(row.base)}, change ${amount(row.value - row.base)}`,
      [count(row.seeds, "seed"), count(row.n, "item")].filter(Boolean).join(", ") || null,
      row.run ? `run ${row.run}` : null,
    ].filter(Boolean).join("\n");
  }

  function tradeoffWords(scale, setting, row) {
    return [
      heading(scale, setting, row),
      row.arm === "base" ? "before any training" : training(setting, row) + (row.swept ? " (rate sweep)" : ""),
      `learnt ${interval(row.learning, row.learning_low, row.learning_high)}`,
      row.forgetting === null ? null
        : `source score ${interval(row.forgetting, row.forgetting_low, row.forgetting_high)}`,
      row.source_loss === null ? null : `source loss ${amount(row.source_loss)}`,
      row.on_front && row.arm !== "base" ? "no run of the study beats it on both axes" : null,
      row.run ? `run ${row.run}` : null,
    ].filter(Boolean).join("\n");
  }

  // ------------------------------------------------------------------ drawing

  /* The empty panel: its axes, and functions from values to pixels. */
  function panel(host, words, x, y, quantities) {
    const width = Math.max(260, host.clientWidth), height = Math.round(Math.min(320, Math.max(240, width * 0.62)));
    host.querySelectorAll("svg").forEach((old) => old.remove());
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": words, class: "chart" });
    const place = (low, high, from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
    const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
    const at = {
      svg, x: place(...x.range, MARGIN.left, right), y: place(...y.range, bottom, MARGIN.top),
      left: MARGIN.left, right, top: MARGIN.top, bottom,
    };
    const axis = node("g", { class: "axes", "aria-hidden": "true" }, svg);
    const up = ticks(...y.range, 5);
    for (const value of up.values) {
      node("line", { x1: at.left, x2: right, y1: at.y(value), y2: at.y(value), class: "grid" }, axis);
      node("text", { x: at.left - 7, y: at.y(value) + 4, "text-anchor": "end" }, axis).textContent =
        value.toFixed(up.digits).replace("-", "−");
    }
    const across = x.ticks || (() => {
      const t = ticks(...x.range, 5);
      return t.values.map((value) => [value, value.toFixed(t.digits).replace("-", "−")]);
    })();
    for (const [value, text] of across) {
      node("line", { x1: at.x(value), x2: at.x(value), y1: bottom, y2: bottom + 4, class: "tick" }, axis);
      node("text", { x: at.x(value), y: bottom + 17, "text-anchor": "middle" }, axis).textContent = text;
    }
    node("line", { x1: at.left, x2: right, y1: bottom, y2: bottom, class: "floor" }, axis);
    node("text", { x: (at.left + right) / 2, y: height - 5, "text-anchor": "middle", class: "quantity" }, axis)
      .textContent = quantities;
    host.append(svg);
    return at;
  }

  function mark(at, parent, x, y, look) {
    const made = node("path", {
      d: shape(look.shape, x, y, look.size), class: "mark" + (look.hollow ? " hollow" : ""), role: "img",
      tabindex: "-1", "data-tip": look.words, "aria-label": look.words.replaceAll("\n", "; "), "data-arm": look.arm,
    }, parent);
    made.center = [x, y];
    return made;
  }

  function group(at, arm) {
    const made = node("g", { class: "arm", "data-arm": arm.arm }, at.svg);
    made.style.color = arm.colour || "var(--ink)";
    return made;
  }

  function drawCurves(host, scale, setting) {
    const all = scale.curves.filter((row) => row.study === setting.study && row.axis === state.axis);
    const lengths = [...new Set([...setting.lengths.map(([value]) => value), ...all.map((row) => row.length)])]
      .sort((a, b) => a - b);
    const base = all.map((row) => row.base).find((value) => value !== null);
    const logs = lengths.map(Math.log2), spread = logs.length > 1 ? 0.45 : 1;
    const at = panel(host, `${setting.title}, ${scale.name}: ${setting.quantities[state.axis]} by training length`,
      { range: [logs[0] - spread, logs[logs.length - 1] + spread],
        ticks: thinned(setting.lengths, host.clientWidth).map(([value, text]) => [Math.log2(value), text]) },
      { range: range(all.flatMap((row) => [row.value, row.low, row.high, row.base])) },
      `training length (${setting.unit})`);
    if (base !== undefined) {
      node("line", { x1: at.left, x2: at.right, y1: at.y(base), y2: at.y(base), class: "base" }, at.svg);
    }
    const arms = [...scale.arms].reverse();
    arms.forEach((arm, place) => {
      if (hidden(scale, arm)) return;
      const shift = (place - (arms.length - 1) / 2) * 0.045;
      const rows = new Map(all.filter((row) => row.arm === arm.arm).map((row) => [row.length, row]));
      const made = group(at, arm);
      const spot = (row) => [at.x(Math.log2(row.length) + shift), at.y(row.value)];
      let path = "", broken = true;
      for (const length of lengths) { // A missing length breaks the line; drawn through, it would look measured.
        const row = rows.get(length);
        if (row) path += (broken ? "M" : "L") + spot(row).map((v) => v.toFixed(1)).join(" ");
        broken = !row;
      }
      node("path", { d: path, class: "line" }, made);
      for (const row of rows.values()) {
        const [x] = spot(row);
        if (row.low !== null && row.high !== null) {
          node("line", { x1: x, x2: x, y1: at.y(row.low), y2: at.y(row.high), class: "whisker" }, made);
        }
      }
      for (const length of lengths) {
        if (!rows.has(length)) continue;
        const row = rows.get(length);
        mark(at, made, ...spot(row), { shape: arm.shape, size: 5.2, arm: arm.arm,
          words: curveWords(scale, setting, row) });
      }
    });
    reachable(at.svg);
  }

  function thinned(lengths, width) {
    const every = Math.ceil(lengths.length / Math.max(2, Math.floor(width / 62)));
    return lengths.filter((_, place) => (lengths.length - 1 - place) % every === 0);
  }

  function drawTradeoff(host, scale, setting) {
    const all = scale.tradeoff.filter((row) => row.study === setting.study && (state.swept || !row.swept)
      && row.learning !== null && row[state.against] !== null);
    const kept = state.against === "forgetting";
    const spans = ["", "_low", "_high"];
    const at = panel(host, `${setting.title}, ${scale.name}: learning against ${kept ? "source score" : "source loss"}`,
      { range: range(all.flatMap((row) => kept ? spans.map((s) => row["forgetting" + s]) : [row.source_loss])) },
      { range: range(all.flatMap((row) => spans.map((s) => row["learning" + s]))) },
      kept ? "source score (right: less forgotten)" : "source loss (left: less forgotten)");
    front(at, all.filter((row) => !hidden(scale, row)).map((row) => [at.x(row[state.against]), at.y(row.learning)]),
      kept ? 1 : -1);
    const longest = Math.max(...all.map((row) => row.length)), shortest = Math.min(
      ...all.filter((row) => row.length > 0).map((row) => row.length));
    const grown = (length) => longest === shortest ? 6
      : 3.6 + 3.6 * Math.log2(length / shortest) / Math.log2(longest / shortest);
    const arms = [...scale.arms].reverse();
    for (const arm of [{ arm: "base", colour: "var(--muted)", shape: "P" }, ...arms]) {
      if (hidden(scale, arm)) continue;
      const made = group(at, arm);
      const rows = all.filter((row) => row.arm === arm.arm)
        .sort((a, b) => Number(b.swept) - Number(a.swept) || a.length - b.length);
      for (const row of rows) {
        const x = at.x(row[state.against]), y = at.y(row.learning);
        if (!row.swept) crossed(at, made, row, x, y, kept);
        mark(at, made, x, y, { shape: arm.shape, size: row.length ? grown(row.length) : 5.2, hollow: row.swept,
          arm: arm.arm, words: tradeoffWords(scale, setting, row) });
      }
    }
    reachable(at.svg);
  }

  function crossed(at, parent, row, x, y, kept) {
    if (row.learning_low !== null && row.learning_high !== null) {
      node("line", { x1: x, x2: x, y1: at.y(row.learning_low), y2: at.y(row.learning_high), class: "whisker faint" },
        parent);
    }
    if (kept && row.forgetting_low !== null && row.forgetting_high !== null) {
      node("line", { x1: at.x(row.forgetting_low), x2: at.x(row.forgetting_high), y1: y, y2: y,
        class: "whisker faint" }, parent);
    }
  }

  /* Steps through the marks shown that no other mark shown beats on both axes; `better` is the good way along x. */
  function front(at, points, better) {
    const best = points.sort((a, b) => better * (b[0] - a[0]) || a[1] - b[1])
      .filter(([, y], place, sorted) => sorted.slice(0, place).every((other) => y < other[1]));
    const steps = best.map(([x, y], i) => (i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`));
    if (best.length > 1) node("path", { d: steps.join(""), class: "front" }, at.svg);
  }

  // ------------------------------------------------------------------ pointing at marks

  function reachable(svg) {
    const marks = [...svg.querySelectorAll(".mark")];
    if (marks.length) marks[0].setAttribute("tabindex", "0");
    svg.addEventListener("pointermove", (event) => point(svg, marks, event));
    svg.addEventListener("pointerdown", (event) => point(svg, marks, event));
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") window.tip.hide(); });
    svg.addEventListener("keydown", (event) => step(marks, event));
  }

  function point(svg, marks, event) {
    const box = svg.getBoundingClientRect();
    const zoom = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * zoom, y = (event.clientY - box.top) * zoom;
    let nearest = null, least = REACH;
    for (const each of marks) {
      const away = Math.hypot(each.center[0] - x, each.center[1] - y);
      if (away < least) [nearest, least] = [each, away];
    }
    if (nearest) window.tip.show(nearest); else window.tip.hide();
  }

  function step(marks, event) {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const place = marks.indexOf(document.activeElement);
    const next = marks[(place + move + marks.length) % marks.length];
    marks.forEach((each) => each.setAttribute("tabindex", each === next ? "0" : "-1"));
    next.focus();
  }

  // ------------------------------------------------------------------ filters

  function hidden(scale, arm) { return state.off.has(`arm ${scale.name} ${arm.arm}`); }

  function toggle(parent, key, look) {
    const button = element("button", { type: "button", class: "toggle", "aria-pressed": String(!state.off.has(key)),
      "data-key": key }, parent);
    if (look.shape) {
      const icon = node("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, button);
      icon.style.color = look.colour || "var(--ink)";
      node("path", { d: "M1 7H27", class: "line" }, icon);
      node("path", { d: shape(look.shape, 14, 7, 5), class: "mark" }, icon);
    }
    button.append(look.label);
    button.addEventListener("click", () => {
      if (!state.off.delete(key)) state.off.add(key);
      button.setAttribute("aria-pressed", String(!state.off.has(key)));
      draw();
    });
  }

  function choice(parent, name, label, options, value) {
    const wrapped = element("label", {}, parent, label + " ");
    const select = element("select", { "data-key": name }, wrapped);
    for (const [key, text] of options) element("option", { value: key }, select, text);
    select.value = value;
    select.addEventListener("change", () => { state[name] = select.value; draw(); });
  }

  function row(parent, title) {
    // On paper only the methods stay: they are the legend.
    const legend = title.startsWith("methods");
    const made = element("div", { class: legend ? "control" : "control own", role: "group", "aria-label": title },
      parent);
    element("span", { class: "quiet" }, made, title);
    return made;
  }

  function controls() {
    const host = frame.querySelector(".controls");
    if (scales.length > 1) {
      const made = row(host, "scale");
      for (const scale of scales) toggle(made, "scale " + scale.name, { label: scale.name });
    }
    for (const scale of scales) {
      const made = row(host, scales.length > 1 ? `methods, ${scale.name}` : "methods");
      made.dataset.scale = scale.name;
      for (const arm of scale.arms) toggle(made, `arm ${scale.name} ${arm.arm}`, arm);
    }
    const places = row(host, "settings");
    for (const setting of settings) toggle(places, "setting " + setting.study, { label: setting.title });
    const shown = row(host, "axes");
    choice(shown, "axis", "curves of", axes.map((axis) => [axis.axis, axis.label]), state.axis);
    if (scales.some((scale) => scale.tradeoff.some((each) => each.source_loss !== null))) {
      choice(shown, "against", "trade-off against", [["forgetting", "source score"], ["source_loss", "source loss"]],
        state.against);
    }
    if (scales.some((scale) => scale.tradeoff.some((each) => each.swept))) {
      const wrapped = element("label", {}, shown);
      const box = element("input", { type: "checkbox", "data-key": "swept" }, wrapped);
      box.checked = state.swept;
      wrapped.append(" with the runs of the rate sweep (hollow)");
      box.addEventListener("change", () => { state.swept = box.checked; draw(); });
    }
  }

  /* Every panel that the filters leave, side by side. */
  function draw() {
    window.tip.hide();
    const axis = axes.find((each) => each.axis === state.axis);
    document.getElementById("curves-title").textContent = axis ? `By training length: ${axis.label}` : "";
    document.getElementById("tradeoff-title").textContent = "The trade-off: up is more learnt";
    frame.querySelectorAll("[data-scale]").forEach((each) => {
      each.hidden = state.off.has("scale " + each.dataset.scale);
    });
    fill("curves", drawCurves, (s, setting) => s.curves.some((r) => r.study === setting.study && r.axis === state.axis));
    fill("tradeoff", drawTradeoff, (s, setting) => s.tradeoff.some((r) => r.study === setting.study
      && r[state.against] !== null));
  }

  function fill(id, drawn, has) {
    const host = document.getElementById(id);
    host.replaceChildren();
    const waiting = [];
    for (const each of settings) {
      for (const scale of scales) {
        const setting = scale.settings.find((s) => s.study === each.study);
        const off = state.off.has("scale " + scale.name) || state.off.has("setting " + each.study);
        if (off || !setting || !has(scale, setting)) continue;
        const made = element("div", { class: "panel", "data-study": setting.study, "data-of": scale.name }, host);
        const title = setting.title + (scales.length > 1 ? ` · ${scale.name}` : "");
        element("h4", {}, made, title);
        if (id === "curves") element("p", { class: "quiet" }, made, setting.quantities[state.axis]);
        waiting.push(() => drawn(made, scale, setting));
      }
    }
    if (!waiting.length) element("p", { class: "quiet" }, host, "Nothing left to show: bring a setting or scale back.");
    waiting.forEach((make) => make());
  }

  frame.hidden = false;
  document.getElementById("no-charts").hidden = true;
  controls();
  draw();
  let width = frame.clientWidth, pending = 0;
  new ResizeObserver(() => {
    // Paper is another width, and keeps what the screen showed.
    if (frame.clientWidth === width || window.matchMedia("print").matches) return;
    width = frame.clientWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(draw);
  }).observe(frame);
})();
