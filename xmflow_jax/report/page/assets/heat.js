// Heat maps: a strip per curve, a cell per layer; in compact ones, for many curves, without space between the strips.

const STRIPS = { height: 16, step: 34, left: 0, labelUp: 4 };
const COMPACT = { height: 13, step: 14, left: 52, labelUp: -10 };

/** run: {layers, confidence, tau}. */
function heatMap(title, curves, measure, limit, run, compact = false) {
  const own = curves.filter((curve) => curve.measures[measure.key]);
  if (!own.length) return null;
  const { height, step, left, labelUp } = compact ? COMPACT : STRIPS;
  const width = 440, side = (width - left) / Math.max(run.layers, 1), tall = own.length * step + (compact ? 16 : 0);
  const canvas = svg("svg", {
    class: "chart", viewBox: `0 0 ${width} ${tall + 18}`, tabindex: 0, role: "application",
    "aria-roledescription": "heat map", "aria-label": `${title}. ${measure.axis}, a strip per curve, a cell per layer. Arrow keys read its cells.`,
  });
  const series = [], points = [];
  own.forEach((curve, row) => {
    const values = curve.measures[measure.key].value, top = row * step + 16;
    canvas.append(svg("text", { x: 0, y: top - labelUp }, curve.label));
    canvas.append(svg("rect", { class: "unknown", x: left, y: top, width: width - left, height }));
    const at = curve.layer.map((layer, i) => {
      if (values[i] === null) return null;
      const spot = { x: left + layer * side, y: top, width: side, height };
      canvas.append(svg("rect", { ...spot, class: "back" }), svg("rect", {
        ...spot, class: "cell", fill: values[i] * measure.harm > 0 ? "var(--harm)" : "var(--gain)",
        "fill-opacity": Math.min(Math.abs(values[i]) / limit, 1).toFixed(3),
      }));
      const middle = { x: left + (layer + 0.5) * side, y: top + height / 2 };
      if (curve.critical[i]) canvas.append(svg("circle", { cx: middle.x, cy: middle.y, r: Math.min(2.4, side / 4), fill: "var(--ink)" }));
      return middle;
    });
    series.push(curveSeries(curve, measure, run, "layer", {}, curve.label, false));
    points.push(at);
  });
  const { xTicks } = axis(0, run.layers - 1, run.layers, "layer");
  for (const { at, text } of xTicks) {
    canvas.append(svg("text", { class: "tick", x: left + (at + 0.5) * side, y: tall + 14, "text-anchor": "middle" }, text));
  }
  const cursor = svg("circle", { class: "cursor", r: 7, visibility: "hidden" });
  canvas.append(cursor);
  const tip = el("div", { class: "tip", role: "status" });
  const figure = el("figure", {}, el("figcaption", {}, title, el("div", { class: "faint" }, `${measure.axis}; full colour at ${number(limit, measure.digits - 1)}`)), canvas, tip);
  readable(canvas, figure, tip, cursor, series, points);
  return figure;
}
