/* What the report does beyond reading: descriptions on hover and focus, tables that sort and filter, details that
 * open when linked to and when printed. Everything it shows is in the page without it.
 */
"use strict";

/* One description at a time, beside whatever has `data-tip`. */
window.tip = (function () {
  const box = document.createElement("div");
  box.className = "tip";
  box.setAttribute("aria-hidden", "true"); // What it says is the label of what it points at.
  box.id = "tip";
  box.hidden = true;
  document.body.append(box);
  let shown = null;

  function place(target) {
    const mark = target.getBoundingClientRect(), own = box.getBoundingClientRect(), gap = 10;
    const wide = document.documentElement.clientWidth, high = window.innerHeight;
    const left = Math.min(Math.max(gap, mark.left + mark.width / 2 - own.width / 2), wide - own.width - gap);
    const above = mark.top - own.height - gap;
    const top = above > gap ? above : Math.min(mark.bottom + gap, high - own.height - gap);
    box.style.left = `${Math.max(0, left)}px`;
    box.style.top = `${Math.max(0, top)}px`;
  }

  function show(target) {
    if (target !== shown) {
      hide();
      shown = target;
      const [first, ...rest] = target.dataset.tip.split("\n");
      const strong = document.createElement("b");
      strong.textContent = first;
      box.replaceChildren(strong, ...rest.map((line) => Object.assign(document.createElement("div"),
        { textContent: line })));
      box.hidden = false;
      target.classList.add("shown");
    }
    place(target);
  }

  function hide() {
    if (!shown) return;
    shown.classList.remove("shown");
    shown = null;
    box.hidden = true;
  }

  const wanted = (event) => event.target.closest && event.target.closest("[data-tip]");
  document.addEventListener("mouseover", (event) => {
    if (event.target.closest && event.target.closest("svg.chart")) return; // Charts find the nearest mark themselves.
    const target = wanted(event);
    if (target) show(target); else if (shown && shown !== document.activeElement) hide();
  });
  document.addEventListener("focusin", (event) => { const target = wanted(event); if (target) show(target); else hide(); });
  document.addEventListener("pointerdown", (event) => {
    if (!wanted(event) && !event.target.closest("svg.chart")) hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  window.addEventListener("scroll", () => {
    if (!shown) return;
    const mark = shown.getBoundingClientRect();
    if (mark.bottom < 0 || mark.top > window.innerHeight) hide(); else place(shown);
  }, { passive: true });
  return { show, hide };
})();

(function () {
  // Descriptions come as titles, which every browser shows; two at once would be one too many.
  document.querySelectorAll("a.sign[title]").forEach((link) => {
    link.dataset.tip = link.title;
    link.setAttribute("aria-label", link.title.replaceAll("\n", "; "));
    link.removeAttribute("title");
  });

  /* A link to something folded away opens it. */
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    target.scrollIntoView();
  }
  window.addEventListener("hashchange", reveal);
  reveal();

  /* On paper nothing is folded away; afterwards it is as it was. */
  let closed = [];
  function unfold() {
    if (closed.length) return;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((each) => { each.open = true; });
    window.tip.hide();
  }
  function fold() {
    closed.forEach((each) => { each.open = false; });
    closed = [];
  }
  window.addEventListener("beforeprint", unfold);
  window.addEventListener("afterprint", fold);
  window.matchMedia("print").addEventListener("change", (event) => (event.matches ? unfold() : fold()));

  // ------------------------------------------------------------------ the table of runs

  function sortable(table) {
    table.querySelectorAll("thead th").forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        table.querySelectorAll("th[aria-sort]").forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => order(a.cells[place], b.cells[place]) * (down ? -1 : 1));
        body.append(...rows);
      });
    });
  }

  function order(a, b) {
    const [x, y] = [a.dataset.value, b.dataset.value];
    return x === undefined ? a.textContent.localeCompare(b.textContent, "en", { numeric: true }) : Number(x) - Number(y);
  }

  document.querySelectorAll("table.sortable").forEach(sortable);

  const search = document.getElementById("run-filter");
  if (!search) return;
  search.closest("[hidden]").hidden = false;
  const found = document.getElementById("run-count");
  const parts = [...document.querySelectorAll("details.runs")];
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let total = 0;
    for (const part of parts) {
      let here = 0;
      for (const row of part.querySelectorAll("tbody tr")) {
        const text = `${part.dataset.study} ${row.textContent}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        here += row.hidden ? 0 : 1;
      }
      part.hidden = here === 0;
      part.open = words.length > 0 && here > 0;
      total += here;
    }
    found.textContent = words.length ? `${total} run${total === 1 ? "" : "s"}` : "";
  });
})();
