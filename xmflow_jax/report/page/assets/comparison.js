// The page of several runs: a table of what they are and what they found, and their curves in the same panels.

const runs = data.runs;
const curves = runs.flatMap((run, place) => run.curves.map((curve) => ({ ...curve, run, place })));
const kinds = [...new Map(curves.map((curve) => [curve.label, curve])).values()]
  .sort((one, other) => data.subjects.indexOf(one.subject) - data.subjects.indexOf(other.subject));
const allTasks = [...new Set(curves.map((curve) => curve.task))]
  .sort((one, other) => (other === ALL_TASKS) - (one === ALL_TASKS) || (one < other ? -1 : 1));
const state = {
  measure: data.measures.length ? data.measures[0].key : null,
  depth: data.depth,
  kind: kinds.length ? kinds[0].label : null,
  hidden: new Set(),
};
const mainTask = (run) => (run.curves.some((curve) => curve.task === ALL_TASKS) ? ALL_TASKS : (run.curves[0] || {}).task);
const entry = (run, title, name) => {
  const group = (run.run || []).find((one) => one.title === title);
  return ((group || { entries: [] }).entries.find(([own]) => own === name) || [])[1] || "unknown";
};

function inPercent(run, layer) {
  return `${number(depthOf(layer, run.layers), 0)} %`;
}

function stageText(run, name) {
  const own = run.stages.find((one) => one.task === mainTask(run));
  const stage = own && own.stages.find((one) => one.name === name);
  if (!stage) return "not measured";
  if (!stage.supported) return "not supported";
  const layers = stage.layers.map(([first, last]) => (first === last ? first : `${first}\u2013${last}`)).join(", ");
  return `layers ${layers}, centre ${number(stage.centre)} (${inPercent(run, stage.centre)} of the depth)`;
}

function pruningText(run) {
  const pruning = run.pruning;
  if (!pruning) return "unknown";
  if (pruning.layer !== null) return `from layer ${pruning.layer} on (${inPercent(run, pruning.layer)} of the depth), at a cost below ${pruning.cost} points`;
  return pruning.layers.length ? `single layers ${pruning.layers.join(", ")}` : "no layer is proven";
}

function criticalText(run, label) {
  const own = run.critical.find((one) => one.task === mainTask(run) && one.label === label);
  return own ? own.ranges || "none" : "not measured";
}

function drawTable() {
  const stages = [...new Set(runs.flatMap((run) => run.stages.flatMap((one) => one.stages.map((stage) => stage.name))))];
  const facts = [
    ["Model", (run) => run.model || "unknown"],
    ["Number type", (run) => entry(run, "Model", "dtype")],
    ["Data", (run) => run.data || "unknown"],
    ["Tasks", (run) => [...new Set(run.curves.map((curve) => curve.task))].filter((task) => task !== ALL_TASKS).join(", ") || "none"],
    ["Prompt template", (run) => `${run.template || "unknown"}: ${entry(run, "Prompt template", "text")}`],
    ["Questions in the results", (run) => `${run.questions_answered} on ${run.images_answered} images`],
    ["Layers", (run) => String(run.layers)],
    ...kinds.map(({ label }) => [`Critical layers, ${label}`, (run) => criticalText(run, label)]),
    ...stages.map((name) => [`Stage, ${name}`, (run) => stageText(run, name)]),
    ["Image attention can go", pruningText],
  ];
  const heads = runs.map((run, place) => el("span", {}, key(palette(place)), ` ${run.name}`));
  id("table").append(table("", ["", ...heads], facts.map(([name, of]) => [name, ...runs.map(of)]), "wrap"));
}

function panels(label, measure) {
  const shown = curves.filter((curve) => curve.label === label && curve.measures[measure.key] && !state.hidden.has(curve.run.name));
  if (!shown.length) return [el("p", {}, "No run has this pathway.")];
  const series = new Map(shown.map((curve) => [curve, curveSeries(curve, measure, curve.run, state.depth, { ...palette(curve.place), dash: "" }, curve.run.name, false)]));
  const yDomain = range([...series.values()], [0]);
  const deepest = most(runs.map((run) => run.layers));
  return allTasks.map((task) => {
    const own = shown.filter((curve) => curve.task === task);
    return own.length ? lineChart({
      title: `${label}: ${task}`, note: `(${counted(own, measure)})`, series: own.map((curve) => series.get(curve)),
      ...axis(0, deepest - 1, deepest, state.depth), yLabel: measure.axis, yDomain, name: `curves ${task}`,
    }) : null;
  });
}

/** Every pathway and measure is there, the others for print alone. */
function draw() {
  id("curve-panels").replaceChildren(...kinds.flatMap(({ label }) => data.measures.map((measure) => {
    const chosen = label === state.kind && measure.key === state.measure;
    return el("div", { class: `panels${chosen ? "" : " unselected"}`, "data-measure": measure.key, "data-pathway": label }, panels(label, measure));
  })));
}

drawTable();
if (kinds.length) {
  const set = (name) => (value) => { state[name] = value; draw(); };
  id("curve-controls").append(
    choices("Pathway", "kind", kinds.map(({ label }) => ({ value: label, label, checked: label === state.kind })), set("kind")),
    choices("Shown", "measure", data.measures.map((one) => ({ value: one.key, label: one.axis, checked: one.key === state.measure })), set("measure")),
    choices("Layers", "depth", [["layer", "in numbers"], ["percent", "in percent of the depth"]].map(([value, label]) => ({ value, label, checked: value === state.depth })), set("depth")),
    choices("Runs", "run", runs.map((run, place) => ({ value: run.name, label: run.name, checked: true, series: palette(place) })),
      (value, checked) => { state.hidden[checked ? "delete" : "add"](value); draw(); }, true),
  );
  draw();
} else {
  id("curve-panels").append(el("p", {}, "There are no rows to draw."));
}
