// The page of one run: pictures of the findings, curves, heat maps, answer tracking, and how the run was made.

const tasks = tasksOf(data.curves);
const main = tasks.includes(ALL_TASKS) ? ALL_TASKS : tasks[0];
const state = { measure: data.measures.length ? data.measures[0].key : null, depth: "layer", hidden: new Set(), control: false };
const run = { layers: data.layers, confidence: data.confidence, tau: data.tau };
const curveName = (curve) => curve.label;
const pruned = (curve) => Object.entries(data.pruning_curve).every(([name, value]) => curve[name] === value);

function strip(layers, filled, colour) {
  const cells = Array.from({ length: layers }, (_, layer) => svg("rect", {
    x: layer * 10 + 0.5, y: 1, width: 9, height: 12, rx: 1.5, fill: filled.has(layer) ? colour : "var(--rule)",
  }));
  return svg("svg", { class: "strip", viewBox: `0 0 ${Math.max(layers * 10, 1)} 14`, preserveAspectRatio: "none", "aria-hidden": "true" }, cells);
}

function picturedCritical(place) {
  const own = data.critical.filter((one) => one.task === main && !pruned(one));
  if (!own.length) return;
  own.sort((one, other) => data.subjects.indexOf(one.subject) - data.subjects.indexOf(other.subject));
  const rows = own.map((one) => [
    one.label,
    strip(data.layers, new Set(one.layers), lookOf(one).colour),
    one.ranges || "none",
    `${number(one.delta_accuracy)} points in layer ${one.peak_layer}` +
      (one.low === null ? "" : ` (${number(one.low)} to ${number(one.high)})`) + `, n\u00a0=\u00a0${one.n}`,
  ]);
  place.append(table(`${main}: critical layers of each pathway, 0 to ${data.layers - 1} from left to right`,
    ["Pathway", "Layers", "Critical", "Largest fall of accuracy"], rows, "strips"));
}

function picturedStages(place) {
  const own = data.stages.find((one) => one.task === main);
  if (!own) return;
  const rows = own.stages.map((stage) => {
    const filled = new Set(stage.layers.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)));
    const colour = data.looks[stage.pathway] ? lookOf({ subject: stage.pathway, style: stage.style }).colour : "var(--s0)";
    const centre = stage.centre === null ? "" : `centre ${number(stage.centre)} (${number(stage.centre_low)} to ${number(stage.centre_high)}), n\u00a0=\u00a0${stage.n}`;
    const layers = stage.layers.map(([first, last]) => (first === last ? first : `${first}\u2013${last}`)).join(", ");
    return [stage.name, strip(data.layers, filled, colour), stage.supported ? `layers ${layers}` : "not supported", stage.supported ? centre : stage.reason];
  });
  place.append(table(`${main}: the three stages, layers 0 to ${data.layers - 1} from left to right`, ["Stage", "Layers", "Where", "Evidence"], rows, "strips"));
}

function picturedPruning(place) {
  const saving = data.pruning && data.pruning.saving;
  if (!saving) return;
  const names = { attention_operations: "Attention operations", mlp_operations: "MLP operations", key_value_bytes: "Bytes of cached keys and values" };
  const rows = Object.entries(names).map(([name, label]) => {
    const own = saving[name];
    const bar = svg("svg", { class: "strip", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: 0, y: 1, width: 100, height: 12, fill: "var(--rule)" }),
      svg("rect", { x: 0, y: 1, width: 100 * own.share, height: 12, fill: "var(--s2)" }));
    return [label, bar, `${number(100 * own.share)} % saved`, `${own.before.toLocaleString("en")} to ${own.after.toLocaleString("en")} for one prompt`];
  });
  place.append(table("What the recommendation saves", ["Quantity", "Share", "Saved", "Before and after"], rows, "strips"));
}

function curvePanels(measure) {
  const shown = data.curves.filter((curve) => curve.measures[measure.key] && !state.hidden.has(curveName(curve)));
  if (!shown.length) return [el("p", {}, "No pathway is chosen.")];
  const seriesOf = new Map(shown.map((curve) => [curve, curveSeries(curve, measure, run, state.depth, lookOf(curve), curve.label, state.control)]));
  const yDomain = range([...seriesOf.values()], [0]);
  const all = data.curves.flatMap((curve) => curve.layer);
  const x = axis(least(all), most(all), data.layers, state.depth);
  return tasks.map((task) => {
    const own = shown.filter((curve) => curve.task === task);
    return own.length ? lineChart({
      title: task, note: `(${counted(own, measure)})`, series: own.map((curve) => seriesOf.get(curve)), ...x, yLabel: measure.axis, yDomain,
      dotted: places(data.cross_attention_layers, data.layers, state.depth), name: `curves ${task}`,
    }) : null;
  });
}

function heatLimit(curves, measure) {
  const values = curves.flatMap((curve) => (curve.measures[measure.key] || { value: [] }).value).map((one) => Math.abs(one ?? 0));
  return Math.min(most([...values, 0]), 100) || 1;
}

function heatPanels(measure) {
  const limit = heatLimit(data.curves, measure);
  return tasks.map((task) => heatMap(task, data.curves.filter((curve) => curve.task === task), measure, limit, run));
}

function headPanels(measure) {
  const limit = heatLimit(data.heads.flatMap((one) => one.curves), measure);
  return data.heads.map((one) => heatMap(`${one.task}: ${one.label}`, one.curves, measure, limit, run, true));
}

/** Every measure is there, the others for print alone. */
function drawCurves() {
  const groups = (panels) => data.measures.map((measure) => {
    const kind = `panels${measure.key === state.measure ? "" : " unselected"}`;
    return el("div", { class: kind, "data-measure": measure.key }, panels(measure));
  });
  id("curve-panels").replaceChildren(...groups(curvePanels));
  id("heat-panels").replaceChildren(...groups(heatPanels));
  if (data.heads.length) id("head-panels").replaceChildren(...groups(headPanels));
}

function drawControls() {
  const set = (name) => (value) => { state[name] = value; drawCurves(); };
  const measures = data.measures.map((one) => ({ value: one.key, label: one.axis, checked: one.key === state.measure }));
  const kinds = new Map(data.curves.map((curve) => [curveName(curve), curve]));
  const pathways = [...kinds].map(([value, curve]) => ({
    value, label: curve.label, checked: true, series: lookOf(curve),
  }));
  const controls = [
    choices("Shown", "measure", measures, set("measure")),
    choices("Layers", "depth", [{ value: "layer", label: "in numbers", checked: true }, { value: "percent", label: "in percent of the depth" }], set("depth")),
    choices("Pathways", "pathway", pathways, (value, checked) => { state.hidden[checked ? "delete" : "add"](value); drawCurves(); }, true),
  ];
  if (data.curves.some((curve) => Object.values(curve.measures).some((own) => own.control))) {
    controls.push(choices("Matched controls", "control", [{ value: "control", label: "shown as dotted lines" }], (_, checked) => set("control")(checked), true));
  }
  id("curve-controls").replaceChildren(...controls);
}

const wordLooks = new Map(data.words.map((one, place) => [one.word, { ...palette(place), dash: one.broken ? "6 3" : "" }]));
const wordLook = (word) => wordLooks.get(word);

function drawLens() {
  const place = id("lens-panels");
  if (!data.tracking.length) return place.replaceWith(el("p", {}, "This run holds no rows of answer tracking."));
  const known = new Map(data.tracking.map((one) => [one.word, one]));
  place.before(el("ul", { class: "keys" }, [...known.values()].map((one) => el("li", {}, key(wordLook(one.word)), one.label))));
  const layers = data.tracking.flatMap((one) => one.layer);
  for (const task of tasksOf(data.tracking)) {
    for (const normed of [false, true]) {
      const own = data.tracking.filter((one) => one.task === task && one.normed === normed);
      const series = own.map((one) => ({
        ...wordLook(one.word), label: one.label, x: one.layer, y: one.value, low: one.low, high: one.high,
        tell: (i) => [
          one.label, layerName(one.layer[i]),
          `probability ${number(one.value[i], 3)}` + (one.low[i] === null ? ", no interval" : `, ${percentOf(data.confidence)} interval ${number(one.low[i], 3)} to ${number(one.high[i], 3)}`),
          `n = ${one.n[i]}`,
        ],
      }));
      if (series.length) place.append(lineChart({
        title: `${task}, ${normed ? "normed" : "raw"}`, series, ...axis(least(layers), most(layers), data.layers, "layer"),
        yLabel: "Probability", yDomain: [-0.02, 1.02], dotted: data.cross_attention_layers, name: `lens ${task}`,
      }));
    }
  }
  return undefined;
}

function drawSetAside() {
  const { counts, questions, more } = data.set_aside;
  const place = id("set-aside-body");
  if (!counts.length) return place.append(el("p", {}, "No question was looked at."));
  place.append(table("Questions by what became of them", ["Task", "In the results", "Set aside", "Not selected"],
    counts.map((one) => [one.task, one.answered, one.set_aside, one.not_selected])));
  if (!questions.length) return place.append(el("p", {}, "No question was set aside."));
  place.append(table("Set aside, with reasons", ["Question", "Task", "Reason"], questions.map((one) => [one.question_id, one.task, one.reason]), "wrap"));
  if (more) place.append(el("p", {}, `${more} more are in run.json.`));
  return undefined;
}

function drawMade() {
  if (!data.run) return id("made-body").append(el("p", {}, "There is no sound run.json, so this is not known."));
  return id("made-body").append(...data.run.map((group) => el("div", {}, el("h3", {}, group.title),
    el("dl", {}, group.entries.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])))));
}

const pictures = { critical: picturedCritical, stages: picturedStages, pruning: picturedPruning };
document.querySelectorAll("[data-finding]").forEach((place) => pictures[place.dataset.finding](place));
if (data.curves.length) {
  drawControls();
  drawCurves();
} else {
  for (const name of ["curve-panels", "heat-panels"]) id(name).append(el("p", {}, "There are no rows to draw."));
}
if (!data.heads.length) id("heads").remove();
drawLens();
drawSetAside();
drawMade();
