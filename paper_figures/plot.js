/* What any chart needs: numbers as words, SVG elements, the shapes of marks, ticks. No state. */
"use strict";
window.plot = (function () {
  const SVG = "http://www.w3.org/2000/svg";

  function amount(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size < 10 ? value.toFixed(3) : size < 1000 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
    return text.replace("-", "−");
  }

  function rate(value) {
    return value === null || value === undefined ? null : value.toExponential().replace("e-", "e−").replace("e+", "e");
  }

  function interval(value, low, high) {
    return amount(value) + (low === null || high === null ? "" : ` [${amount(low)}, ${amount(high)}]`);
  }

  function count(number, word) {
    return number ? `${number} ${word}${number === 1 ? "" : "s"}` : null;
  }

  function node(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  }

  function element(name, attributes, parent, text) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  }

  function shape(kind, x, y, r) {
    const p = (...points) => "M" + points.map(([dx, dy]) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`)
      .join("L") + "Z";
    if (kind === "^") return p([0, -1.2], [1.1, 0.85], [-1.1, 0.85]);
    if (kind === "v") return p([0, 1.2], [1.1, -0.85], [-1.1, -0.85]);
    if (kind === "s") return p([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
    if (kind === "D") return p([0, -1.25], [1.15, 0], [0, 1.25], [-1.15, 0]);
    if (kind === "_") return p([-1.3, -0.3], [1.3, -0.3], [1.3, 0.3], [-1.3, 0.3]);
    if (kind === "P") return p([-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4],
      [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]);
    if (kind === "X") return p([0, -0.4], [0.7, -1.1], [1.1, -0.7], [0.4, 0], [1.1, 0.7], [0.7, 1.1], [0, 0.4],
      [-0.7, 1.1], [-1.1, 0.7], [-0.4, 0], [-1.1, -0.7], [-0.7, -1.1]);
    return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }

  function ticks(low, high, most) {
    const raw = (high - low) / most || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function range(values) {
    const known = values.filter((value) => value !== null && value !== undefined);
    const low = Math.min(...known), high = Math.max(...known);
    const margin = 0.06 * (high - low || Math.abs(high) || 1);
    return [low - margin, high + margin];
  }

  return { amount, rate, interval, count, node, element, shape, ticks, range };
})();
