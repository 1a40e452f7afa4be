// What curves of the summary share on both pages: their look, their words, layers in numbers or in percent.

const ALL_TASKS = "All tasks";
const percentOf = (confidence) => `${number(100 * (confidence ?? 0.95), 0)} %`;
const depthOf = (layer, layers) => (layers > 1 ? (100 * layer) / (layers - 1) : 0);
const places = (layer, layers, depth) => layer.map((one) => (depth === "percent" ? depthOf(one, layers) : one));
const layerName = (layer) => (layer < 0 ? "embedding" : `layer ${layer}`);

function lookOf(curve) {
  const look = data.looks[curve.subject];
  return { colour: `var(--c${look.place})`, marker: look.marker, dash: DASHES[curve.style] ?? "" };
}

const palette = (place) => ({ colour: `var(--s${place % 8})`, marker: ["o", "s", "^", "D", "v", "P", "<", ">"][place % 8] });

/** Ticks at whole layers, on the multiples of a power of two, or at quarters of the depth. */
function axis(first, last, layers, depth) {
  if (depth === "percent") {
    return { xLabel: "Depth (%)", xTicks: [0, 25, 50, 75, 100].map((at) => ({ at, text: String(at) })), xDomain: [-4, 104] };
  }
  let step = 1;
  while ((last - first) / step + 1 > 10) step *= 2;
  const xTicks = [];
  for (let at = Math.max(Math.ceil(first / step) * step, 0); at <= last; at += step) xTicks.push({ at, text: String(at) });
  // Layer -1 is the embedding; where layers are narrow, its name takes the place of layer 0's.
  if (first < 0) xTicks.splice(0, step > 2 ? 1 : 0, { at: -1, text: "emb." });
  return { xLabel: "Layer", xTicks, xDomain: [first - 0.5, last + 0.5] };
}

/** "12.3 points, 95 % interval 10.0 to 14.0" */
function valueLine(measure, own, i, confidence) {
  const unit = measure.unit === "%" ? " %" : ` ${measure.unit}`;
  const value = `${measure.label}: ${number(own.value[i], measure.digits)}${unit}`;
  if (!own.low || own.low[i] === null) return `${value}, no interval`;
  return `${value}, ${percentOf(confidence)} interval ${number(own.low[i], measure.digits)} to ${number(own.high[i], measure.digits)}`;
}

/** A curve's series for `lineChart`; run: {layers, confidence, tau}. */
function curveSeries(curve, measure, run, depth, look, label, withControl) {
  const own = curve.measures[measure.key];
  const tell = (i) => [
    label,
    `${layerName(curve.layer[i])} (${number(depthOf(curve.layer[i], run.layers), 0)} % of the depth)` +
      (curve.window > 1 ? `, window of ${curve.window}` : ""),
    valueLine(measure, own, i, run.confidence),
    `n = ${own.n[i]}` + (own.p && own.p[i] !== null ? `, p = ${own.p[i].toPrecision(2)} (Holm)` : ""),
    own.control && own.control[i] !== null
      ? `matched control: ${number(own.control[i], measure.digits)}` +
        (own.over_control_low && own.over_control_low[i] !== null
          ? `; beyond it ${number(own.over_control[i], measure.digits)} ` +
            `(${number(own.over_control_low[i], measure.digits)} to ${number(own.over_control_high[i], measure.digits)})`
          : "")
      : null,
    curve.critical[i] ? `critical: accuracy falls by more than ${run.tau} points` : null,
  ];
  return {
    ...look, label, x: places(curve.layer, run.layers, depth), y: own.value, low: own.low, high: own.high,
    ring: curve.critical, control: withControl ? own.control : null, tell,
  };
}

/** "n = 30" or "n = 28–30" */
function counted(curves, measure) {
  const all = curves.flatMap((curve) => curve.measures[measure.key].n);
  const few = least(all), many = most(all);
  return `n = ${few === many ? few : `${few}\u2013${many}`}`;
}

const tasksOf = (curves) => [...new Set(curves.map((curve) => curve.task))];
