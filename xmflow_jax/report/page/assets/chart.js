"use strict";
// Elements, and line charts that are read by pointer or keyboard. Texts enter the page as text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const DASHES = { centred: "", "from-start": "7 4", "to-end": "8 3 2 3", single: "2 3" };

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

function number(value, digits = 1) {
  if (value === null || value === undefined) return "unknown";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
}

// Not Math.min(...values): a page may have more values than a call may have arguments.
const least = (values) => values.reduce((one, other) => Math.min(one, other), Infinity);
const most = (values) => values.reduce((one, other) => Math.max(one, other), -Infinity);

const markerPaths = {
  o: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  s: (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  D: (x, y, r) => `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  "^": (x, y, r) => `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.2 * r}h${-2.4 * r}z`,
  v: (x, y, r) => `M${x} ${y + 1.2 * r}l${1.2 * r} ${-2.2 * r}h${-2.4 * r}z`,
  "<": (x, y, r) => `M${x - 1.2 * r} ${y}l${2.2 * r} ${-1.2 * r}v${2.4 * r}z`,
  ">": (x, y, r) => `M${x + 1.2 * r} ${y}l${-2.2 * r} ${-1.2 * r}v${2.4 * r}z`,
  P: (x, y, r) => `M${x - r} ${y - 0.45 * r}h${2 * r}v${0.9 * r}h${-2 * r}zM${x - 0.45 * r} ${y - r}h${0.9 * r}v${2 * r}h${-0.9 * r}z`,
};
const marker = (kind, x, y, r) => (markerPaths[kind] || markerPaths.o)(x, y, r);

/** A short piece of a line, for legends. */
function key(series) {
  const line = { class: "line", stroke: series.colour, "stroke-dasharray": series.dash || null, d: "M2 7H32" };
  const mark = svg("path", { d: marker(series.marker, 17, 7, 3.4), fill: series.colour });
  return svg("svg", { class: "key", viewBox: "0 0 34 14", "aria-hidden": "true" }, svg("path", line), mark);
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high + step * 1e-6; tick += 1) ticks.push(tick * step);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
}

/** [least, most] that hold all values, and their intervals as far as these do not dwarf them. */
function range(series, always = []) {
  const values = series.flatMap((one) => one.y).concat(always).filter((one) => one !== null);
  let low = least(values), high = most(values);
  const reach = Math.max(high - low, 1e-9) * 0.5;
  const ends = series.flatMap((one) => [...(one.low || []), ...(one.high || [])]).filter((one) => one !== null);
  low = Math.max(Math.min(low, least(ends)), low - reach);
  high = Math.min(Math.max(high, most(ends)), high + reach);
  const room = (high - low) * 0.04 || 0.5;
  return [low - room, high + room];
}

let charts = 0;

/**
 * A line chart as a figure.
 * series: {label, colour, dash, marker, x, y, low, high, ring, control, tell(i) -> lines}; null is a gap in a line.
 * xTicks: [{at, text}]; rule: {at, label}, a horizontal line; dotted: places of vertical lines.
 */
function lineChart({ title, note, series, xLabel, xTicks, xDomain, yLabel, yDomain, rule, dotted = [], name }) {
  const id = `chart-${(charts += 1)}`;
  const width = 440, height = 270, left = 50, right = 10, top = 10, bottom = 40;
  const px = (x) => left + ((x - xDomain[0]) / (xDomain[1] - xDomain[0] || 1)) * (width - left - right);
  const py = (y) => height - bottom - ((y - yDomain[0]) / (yDomain[1] - yDomain[0] || 1)) * (height - top - bottom);
  const drawn = svg("g", { "clip-path": `url(#${id})` });
  const area = { x: left, y: top, width: width - left - right, height: height - top - bottom };
  const canvas = svg("svg", {
    class: "chart", viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application",
    "aria-roledescription": "line chart", "aria-label": `${title}. ${yLabel} by ${xLabel}. Arrow keys read its points.`,
    "data-chart": name || null,
  }, svg("clipPath", { id }, svg("rect", { ...area, x: left - 6, width: area.width + 12 })), svg("rect", { ...area, class: "back" }));
  const { ticks, digits } = niceTicks(yDomain[0], yDomain[1], 5);
  for (const tick of ticks) {
    canvas.append(svg("path", { class: "axis", d: `M${left} ${py(tick)}H${width - right}` }));
    canvas.append(svg("text", { class: "tick", x: left - 5, y: py(tick) + 4, "text-anchor": "end" }, number(tick, digits)));
  }
  for (const { at, text } of xTicks) {
    canvas.append(svg("text", { class: "tick", x: px(at), y: height - bottom + 15, "text-anchor": "middle" }, text));
  }
  canvas.append(svg("text", { class: "tick", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
  for (const at of dotted) drawn.append(svg("path", { class: "dotted", d: `M${px(at)} ${top}V${height - bottom}` }));
  if (yDomain[0] <= 0 && yDomain[1] >= 0) drawn.append(svg("path", { class: "zero", d: `M${left} ${py(0)}H${width - right}` }));
  if (rule) drawn.append(svg("path", { class: "rule", d: `M${left} ${py(rule.at)}H${width - right}` }));
  for (const one of series) drawn.append(svg("g", { class: "series" }, seriesMarks(one, px, py)));
  const cursor = svg("circle", { class: "cursor", r: 6, visibility: "hidden" });
  canvas.append(drawn, cursor);
  const caption = el("figcaption", {}, title, note ? el("span", { class: "faint" }, ` ${note}`) : null,
    el("div", { class: "faint" }, yLabel, rule ? `; broken red line: ${rule.label}` : ""));
  const tip = el("div", { class: "tip", role: "status" });
  const figure = el("figure", {}, caption, canvas, tip);
  const points = series.map((one) => one.y.map((y, i) => (y === null ? null : { x: px(one.x[i]), y: py(y) })));
  readable(canvas, figure, tip, cursor, series, points);
  return figure;
}

function seriesMarks(one, px, py) {
  const marks = [];
  const known = one.y.map((y, i) => i).filter((i) => one.y[i] !== null);
  const path = (indexes, values) => indexes.map((i, place) => `${place ? "L" : "M"}${px(one.x[i]).toFixed(1)} ${py(values[i]).toFixed(1)}`).join("");
  const certain = known.filter((i) => one.low && one.high && one.low[i] !== null && one.high[i] !== null);
  if (certain.length) {
    const back = path([...certain].reverse(), one.low).replace("M", "L");
    marks.push(svg("path", { class: "band", fill: one.colour, d: `${path(certain, one.high)}${back}z` }));
  }
  if (one.control) {
    const measured = known.filter((i) => one.control[i] !== null);
    marks.push(svg("path", { class: "line", stroke: one.colour, "stroke-opacity": 0.7, "stroke-dasharray": "1 3", d: path(measured, one.control) }));
  }
  marks.push(svg("path", { class: "line", stroke: one.colour, "stroke-dasharray": one.dash || null, d: path(known, one.y) }));
  const at = (i, r, kind) => marker(kind, px(one.x[i]), py(one.y[i]), r);
  marks.push(svg("path", { fill: one.colour, d: known.map((i) => at(i, 2.6, one.marker)).join("") }));
  const rings = known.filter((i) => one.ring && one.ring[i]);
  marks.push(svg("path", { class: "ring", stroke: one.colour, d: rings.map((i) => at(i, 5.6, "o")).join("") }));
  return marks;
}

/** Pointer and keys choose a point; its lines are told beside it, and to screen readers. */
function readable(canvas, figure, tip, cursor, series, points) {
  let chosen = null;
  const show = (s, i) => {
    chosen = { s, i };
    canvas.classList.add("reading");
    canvas.querySelectorAll(".series").forEach((group, place) => group.classList.toggle("read", place === s));
    const point = points[s][i];
    fill(cursor, { cx: point.x, cy: point.y, visibility: "visible" }, []);
    tip.replaceChildren(...series[s].tell(i).filter(Boolean).map((line) => el("div", {}, line)));
    const box = canvas.getBoundingClientRect(), frame = figure.getBoundingClientRect();
    const scale = box.width / canvas.viewBox.baseVal.width;
    const x = box.left - frame.left + point.x * scale, y = box.top - frame.top + point.y * scale;
    tip.style.left = `${Math.max(0, Math.min(x + 12, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${y + 14}px`;
  };
  const hide = () => {
    canvas.classList.remove("reading");
    cursor.setAttribute("visibility", "hidden");
    tip.replaceChildren();
  };
  const first = (s) => points[s].findIndex((point) => point !== null);
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, nearest = Infinity;
    points.forEach((own, s) => own.forEach((point, i) => {
      if (point === null) return;
      const far = 9 * (point.x - x) ** 2 + (point.y - y) ** 2;  // the layer pointed at comes before the line
      if (far < nearest) [best, nearest] = [{ s, i }, far];
    }));
    if (best) show(best.s, best.i);
  });
  canvas.addEventListener("pointerleave", () => (document.activeElement === canvas && chosen ? null : hide()));
  canvas.addEventListener("focus", () => {
    if (!canvas.matches(":focus-visible")) return;
    const s = chosen ? chosen.s : points.findIndex((own) => own.some((point) => point !== null));
    if (s >= 0) show(s, chosen ? chosen.i : first(s));
  });
  canvas.addEventListener("blur", hide);
  canvas.addEventListener("keydown", (event) => {
    const some = points.map((own, s) => s).filter((s) => first(s) >= 0);
    if (!some.length || event.ctrlKey || event.altKey || event.metaKey) return;
    let { s, i } = chosen || { s: some[0], i: first(some[0]) };
    const along = (step) => {
      for (let next = i + step; next >= 0 && next < points[s].length; next += step) if (points[s][next]) return next;
      return i;
    };
    if (event.key === "ArrowRight") i = along(1);
    else if (event.key === "ArrowLeft") i = along(-1);
    else if (event.key === "Home") i = first(s);
    else if (event.key === "End") i = points[s].findLastIndex((point) => point !== null);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const x = series[s].x[i];
      s = some[(some.indexOf(s) + (event.key === "ArrowDown" ? 1 : some.length - 1)) % some.length];
      i = series[s].x.findIndex((one, place) => one >= x && points[s][place]);
      if (i < 0) i = first(s);
    } else if (event.key === "Escape") return hide();
    else return undefined;
    event.preventDefault();
    return show(s, i);
  });
}

/** A table with a caption; cells are texts or nodes, numbers stand right. */
function table(caption, heads, rows, kind = "") {
  const cell = (one) => (typeof one === "number" ? el("td", { class: "number" }, String(one)) : el("td", {}, one ?? ""));
  const body = rows.map((row) => el("tr", {}, row.map((one, place) => (place ? cell(one) : el("th", { scope: "row" }, one)))));
  const head = el("thead", {}, el("tr", {}, heads.map((one) => el("th", { scope: "col" }, one))));
  const made = el("table", { class: kind }, caption ? el("caption", {}, caption) : null, head, el("tbody", {}, body));
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption || heads[0] }, made);
}

/** Radio buttons or, with `many`, check boxes: options are {value, label, series, checked}. */
function choices(title, name, options, changed, many = false) {
  const labels = options.map((one) => {
    const input = el("input", { type: many ? "checkbox" : "radio", name, value: one.value, checked: one.checked });
    input.addEventListener("change", () => changed(one.value, input.checked));
    return el("label", {}, input, one.series ? key(one.series) : null, one.label);
  });
  return el("fieldset", {}, el("legend", {}, title), el("div", { class: "choices" }, labels));
}

const id = (name) => document.getElementById(name);
