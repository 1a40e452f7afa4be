// The recommendation: what every layer's pruning costs, and each task's critical layers and stages.

function drawRecommendation() {
  const place = id("recommendation-body");
  const pruning = data.pruning;
  if (!pruning) return place.append(el("p", {}, "There are no rows to recommend anything from."));
  if (!pruning.tasks.length) place.append(el("p", {}, `${pruning.reason}.`));
  else place.append(...evidence(pruning));
  place.append(criticalByTask(), stagesByTask());
  return undefined;
}

function evidence(pruning) {
  const what = pruning.cross_attention ? "cross-attention to the image" : "attention to the image";
  const single = pruning.style === "single";
  const confidence = percentOf(pruning.confidence);
  const seriesOf = (column) => pruning.tasks.map((task, i) => ({
    ...palette(i), label: task.task, dash: i >= 8 ? "6 3" : "", x: task.evidence.map((one) => one.layer), y: task.evidence.map((one) => one[column]),
    tell: (j) => [
      task.task,
      single ? `no ${what} in layer ${task.evidence[j].layer}` : `no ${what} from layer ${task.evidence[j].layer} on`,
      `costs ${number(task.evidence[j].delta_accuracy)} points (estimate), at most ${number(task.evidence[j].upper)} (${confidence} confidence)`,
      `n = ${task.evidence[j].n}`,
    ],
  }));
  const series = seriesOf("upper");
  const layers = series.flatMap((one) => one.x);
  const chart = (column, yLabel) => lineChart({
    title: single ? `Skipping ${what} in one layer` : `Leaving out all ${what} from a layer on`,
    series: seriesOf(column), ...axis(least(layers), most(layers), data.layers, "layer"), name: "evidence",
    yLabel, yDomain: range(series, [0, pruning.cost]), rule: { at: pruning.cost, label: `the cost allowed, ${pruning.cost} points` },
  });
  const charts = [chart("upper", `Most points of accuracy that it may cost (${confidence} confidence)`), chart("delta_accuracy", "Points of accuracy that it costs, estimate")];
  const keys = el("ul", { class: "keys" }, series.map((one) => el("li", {}, key(one), one.label)));
  const ranges = (layers) => (layers.length ? rangesText(layers) : "none");
  const rows = pruning.tasks.map((task) => [
    task.task, task.n, task.layer !== null ? `from ${task.layer} on` : ranges(task.layers),
    task.estimated_layer !== null ? `from ${task.estimated_layer} on` : ranges(task.estimated_layers),
    `${number(task.least_provable)} points`, task.reason || "",
  ]);
  const told = el("p", {}, `A layer is proven where the ${confidence} confidence bound of the accuracy that is lost stays below ` +
    `${pruning.cost} points${single ? "" : ", there and in every later layer"}. So many questions can prove no cost below the ` +
    "least provable one, even if no answer is lost.");
  return [told, keys, el("div", { class: "panels wide-panels" }, charts),
    table("Each task", ["Task", "n", "Proven", "By the estimates alone", "Least provable cost", "Why not earlier or at all"], rows)];
}

function rangesText(layers) {
  const parts = [];
  for (const layer of layers) {
    const open = parts[parts.length - 1];
    if (open && open[1] === layer - 1) open[1] = layer;
    else parts.push([layer, layer]);
  }
  return parts.map(([first, last]) => (first === last ? String(first) : `${first}\u2013${last}`)).join(", ");
}

function criticalByTask() {
  const labels = [...new Map(data.curves.map((curve) => [curve.label, curve])).keys()];
  const known = new Map(data.critical.map((one) => [`${one.task}\n${one.label}`, one]));
  const rows = labels.map((label) => [label, ...tasks.map((task) => {
    const own = known.get(`${task}\n${label}`);
    return own ? own.ranges || "\u2013" : "not measured";
  })]);
  return table(`Critical layers of every task (accuracy falls by more than ${data.tau} points)`, ["Pathway", ...tasks], rows);
}

function stagesByTask() {
  const rows = data.stages.flatMap((own) => own.stages.map((stage) => [
    `${own.task}: ${stage.name}`,
    stage.supported ? `layers ${stage.layers.map(([first, last]) => (first === last ? first : `${first}\u2013${last}`)).join(", ")}` : "not supported",
    stage.supported
      ? `centre ${number(stage.centre)} (${number(stage.centre_low)} to ${number(stage.centre_high)}); probability falls by ` +
        `${number(stage.peak_effect)} % in layer ${stage.peak_layer} (${number(stage.peak_low)} to ${number(stage.peak_high)}), n = ${stage.n}`
      : stage.reason,
  ]).concat(own.orders.map((order) => [
    `${own.task}: order`, `${order.first} before ${order.second}`, `in ${number(100 * order.support)} % of resamples`,
  ])));
  return table("Stages of every task", ["Stage", "Where", "Evidence"], rows, "wrap");
}

drawRecommendation();
