// The browser of single questions: the image with its patches, the prompt with its roles, the question's own curves.

const ROLE_NAMES = ["Question", "Central Object", "True Option", "False Option", "Last", "System", "Image"];
const roleClass = (role) => `role-${role.toLowerCase().replaceAll(" ", "-")}`;
// A token of several roles looks like the first of these that it has.
const LOOKS_LIKE = ["Last", "True Option", "False Option", "Central Object", "Question", "System", "Image"];

function picture(card) {
  if (!card.image) return el("p", { class: "faint" }, "The image could not be read again.");
  const side = 100, height = (side * card.rows) / card.columns, step = side / card.columns;
  const inside = new Set(card.objects);
  const edges = card.objects.map((one) => {
    const row = Math.floor(one / card.columns), column = one % card.columns, x = column * step, y = row * step;
    return (row === 0 || !inside.has(one - card.columns) ? `M${x} ${y}h${step}` : "") +
      (row === card.rows - 1 || !inside.has(one + card.columns) ? `M${x} ${y + step}h${step}` : "") +
      (column === 0 || !inside.has(one - 1) ? `M${x} ${y}v${step}` : "") +
      (column === card.columns - 1 || !inside.has(one + 1) ? `M${x + step} ${y}v${step}` : "");
  });
  const crosses = card.padding.map((one) => {
    const x = (one % card.columns) * step, y = Math.floor(one / card.columns) * step;
    return `M${x} ${y}l${step} ${step}M${x} ${y + step}l${step} ${-step}`;
  });
  const said = card.objects.length ? `${card.objects.length} of ${card.rows * card.columns} patches show the objects asked about` : "no patches of an object are marked";
  const canvas = svg("svg", { viewBox: `0 0 ${side} ${height}`, role: "img", "aria-label": `The image as the model sees it; ${said}.` },
    svg("image", { href: card.image, x: 0, y: 0, width: side, height, preserveAspectRatio: "none" }),
    svg("path", { class: "padding", d: crosses.join("") }), svg("path", { class: "patches", d: edges.join("") }));
  const caption = el("figcaption", {}, el("span", { class: "faint" }, `Red: ${said}.${card.padding.length ? " Blue crosses: padding." : ""}`));
  return el("figure", { class: "picture" }, canvas, caption);
}

function prompt(card) {
  const spans = card.tokens.map(([text, roles]) => {
    const look = LOOKS_LIKE.find((role) => roles.includes(role));
    return el("span", { class: `token ${look ? roleClass(look) : ""}`, title: roles.join(", ") || "no role" }, text);
  });
  const there = ROLE_NAMES.filter((role) => card.tokens.some(([, roles]) => roles.includes(role)));
  return [el("div", { class: "prompt" }, spans),
    el("ul", { class: "keys" }, there.map((role) => el("li", {}, el("span", { class: `token ${roleClass(role)}` }, role))))];
}

function ownCurves(question) {
  const series = question.curves.map((curve) => ({
    ...lookOf(curve), label: curve.label, x: curve.layer, y: curve.prob, ring: curve.right.map((one) => one !== null && one < 0.5),
    tell: (i) => [
      curve.label, layerName(curve.layer[i]),
      `probability ${number(curve.prob[i], 3)}, undisturbed ${number(question.base_prob, 3)}`,
      `answer: ${curve.answer[i]}`,
      "n = 1: one question, no interval",
    ],
  }));
  const layers = series.flatMap((one) => one.x);
  return lineChart({
    title: "Its own curves", note: "(rings: the answer is wrong)", series, ...axis(least(layers), most(layers), data.layers, "layer"),
    yLabel: "Probability of the undisturbed run's first token", yDomain: [-0.02, 1.02], dotted: data.cross_attention_layers,
    rule: { at: question.base_prob ?? 0, label: "undisturbed" }, name: "question",
  });
}

function wordLabel(word) {
  const known = data.tracking.find((one) => one.word === word);
  return known ? known.label : word;
}

function ownLens(question) {
  return question.lens.flatMap((lens) => {
    const series = Object.entries(lens.words).map(([word, values]) => {
      const label = wordLabel(word);
      return {
        ...wordLook(word), label, x: lens.layer, y: values,
        tell: (i) => [label, layerName(lens.layer[i]), `probability ${number(values[i], 3)}`, `most probable: ${lens.top[i].map(([one]) => one.trim() || "\u2423").join(", ")}`, "n = 1: one question, no interval"],
      };
    });
    if (!series.length) return [];
    return [lineChart({
      title: `Answer tracking, ${lens.normed ? "normed" : "raw"}`, series, ...axis(least(lens.layer), most(lens.layer), data.layers, "layer"),
      yLabel: "Probability", yDomain: [-0.02, 1.02], name: "question lens",
    })];
  });
}

function legends(question) {
  const pathways = question.curves.map((curve) => [lookOf(curve), curve.label]);
  const words = [...new Set(question.lens.flatMap((lens) => Object.keys(lens.words)))].map((word) => [wordLook(word), wordLabel(word)]);
  const lists = [["Pathways:", pathways], ["Words:", words]].filter(([, own]) => own.length);
  return lists.map(([title, own]) => el("ul", { class: "keys" }, el("li", { class: "faint" }, title), own.map(([look, label]) => el("li", {}, key(look), label))));
}

function topWords(question) {
  if (!question.lens.length) return [];
  const shown = (top) => top.filter(([, prob], place) => place === 0 || prob >= 0.005).map(([word, prob]) => `${word.trim() || "\u2423"} ${number(prob, 2)}`).join(", ");
  const heads = question.lens.map((lens) => (lens.normed ? "Most probable words, normed" : "Most probable words, raw"));
  const rows = question.lens[0].layer.map((layer, i) => [layerName(layer), ...question.lens.map((lens) => (lens.top[i] ? shown(lens.top[i]) : ""))]);
  return [table("What the layers would say", ["After", ...heads], rows, "wrap")];
}

function drawQuestion(index) {
  const question = data.questions[index];
  const card = question.card;
  const facts = [["Question", question.question_id], ["Task", question.task], ["Gold answer", question.gold],
    ["Undisturbed answer", `${question.base_answer} (first token's probability ${number(question.base_prob, 3)})`]];
  const texts = [
    el("p", { class: "question-text", id: "question-text" }, card ? card.text : question.question_id),
    el("dl", {}, facts.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    ...(card ? prompt(card) : [el("p", { class: "faint" }, "The run kept neither image nor prompt of this question.")]),
  ];
  id("question-body").replaceChildren(
    el("div", { class: "panels pair" }, card ? picture(card) : null, el("div", {}, texts)),
    ...legends(question), el("div", { class: "panels" }, ownCurves(question), ownLens(question)), ...topWords(question),
  );
  if (card && card.image) {  // a few pixels are shown as squares, not blurred
    const probe = new Image();
    probe.onload = () => { if (probe.naturalWidth < 120) id("question-body").querySelector(".picture")?.classList.add("small"); };
    probe.src = card.image;
  }
}

function drawBrowser() {
  const place = id("question-browser");
  const count = data.questions.length;
  if (!count) return place.append(el("p", {}, "There are no questions to show."));
  const shownTasks = [...new Set(data.questions.map((one) => one.task))];
  const option = (one, index) => el("option", { value: index }, one.card ? one.card.text : one.question_id);
  const select = el("select", { id: "question-select" }, shownTasks.map((task) => el("optgroup", { label: task },
    data.questions.map((one, index) => (one.task === task ? option(one, index) : null)))));
  const before = el("button", { type: "button", id: "question-before" }, "Previous");
  const after = el("button", { type: "button", id: "question-after" }, "Next");
  const where = el("span", { role: "status", id: "question-where" });
  const go = (index) => {
    select.value = String(index);
    // A button that is disabled under the keyboard would lose the focus, so both only say that they do nothing.
    before.setAttribute("aria-disabled", String(index === 0));
    after.setAttribute("aria-disabled", String(index === count - 1));
    where.textContent = `${index + 1} of ${count}`;
    drawQuestion(index);
  };
  const step = (by) => go(Math.min(Math.max(Number(select.value) + by, 0), count - 1));
  select.addEventListener("change", () => go(Number(select.value)));
  before.addEventListener("click", () => step(-1));
  after.addEventListener("click", () => step(1));
  place.append(
    el("p", {}, `${count} of the run's ${data.questions_answered} questions, evenly from its tasks. Red outlines are the patches of the objects asked about; the prompt is split into the model's tokens, coloured by role.`),
    el("div", { class: "browser-bar" }, el("label", { for: "question-select" }, "Question"), select, before, after, where),
    el("div", { id: "question-body" }),
  );
  return go(0);
}

drawBrowser();
