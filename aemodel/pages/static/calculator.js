// The page: what is chosen, its answers looked up in the table, and both kept in the address. All text of the model is
// set as text, never as markup.

const MODEL = JSON.parse(document.getElementById("model").textContent);

// `chosen` holds a position per covariate; the one after the last level is "not known".
const state = { chosen: unknownOf(MODEL), event: 0, grade: 0 };

function byId(id) {
  return document.getElementById(id);
}

function make(name, properties = {}, children = []) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function setText(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

function isUnknown(k) {
  return state.chosen[k] === MODEL.covariates[k].levels.length;
}

// The address: what is chosen, by name.

const EVENT_KEY = "show.event";
const GRADE_KEY = "show.grade";

function address() {
  const parts = new URLSearchParams();
  MODEL.covariates.forEach((covariate, k) => {
    if (!isUnknown(k)) parts.set(covariate.name, covariate.levels[state.chosen[k]].name);
  });
  parts.set(EVENT_KEY, MODEL.events[state.event].name);
  parts.set(GRADE_KEY, MODEL.grades[state.grade]);
  return `#${parts}`;
}

// A value that the model does not have is told, not silently taken for the average.
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const wrong = [];
  const find = (key, names, otherwise) => {
    if (!given.has(key)) return otherwise;
    const place = names.indexOf(given.get(key));
    if (place < 0) wrong.push(`${key} = ${given.get(key)}`);
    given.delete(key);
    return place < 0 ? otherwise : place;
  };
  state.chosen = MODEL.covariates.map((c) => find(c.name, c.levels.map((level) => level.name), c.levels.length));
  state.event = find(EVENT_KEY, MODEL.events.map((event) => event.name), 0);
  state.grade = find(GRADE_KEY, MODEL.grades, 0);
  wrong.push(...[...given.keys()].map((key) => `${key} = ${given.get(key)}`));
  setText("problem", wrong.length ? `The link asks for what this model does not have, which is left out: ${wrong.join("; ")}.` : "");
}

// Controls, made once.

function radios(name, labels, choose) {
  const options = labels.map(([text, note], i) => {
    const input = make("input", { type: "radio", name, value: String(i) });
    input.addEventListener("change", () => {
      choose(i);
      changed();
    });
    const words = note ? [text, " ", make("span", { className: "note", textContent: note })] : [text];
    return make("label", { className: "option" }, [input, make("span", {}, words)]);
  });
  return make("div", { className: "options" }, options);
}

function makeControls() {
  MODEL.covariates.forEach((covariate, k) => {
    const size = ({ patients }) => (patients < 10 ? `(only ${patients} patient${patients === 1 ? "" : "s"} of the cohort)` : "");
    const labels = [...covariate.levels.map((level) => [level.label, size(level)]), ["Not known", "(averaged over the cohort)"]];
    const group = radios(`covariate-${k}`, labels, (i) => (state.chosen[k] = i));
    const hints = covariate.columns.map((said) => make("span", { className: "soft hint", textContent: said }));
    const fields = make("fieldset", {}, [make("legend", { textContent: covariate.label }), ...hints, group]);
    const why = `${covariate.label}: no toxicity was counted by it; choosing adds an assumption`;
    const folded = () => make("details", { id: `fold-${k}` }, [make("summary", { textContent: why }), fields]);
    byId("covariates").append(covariate.counted ? fields : folded());
  });
  byId("event").append(...MODEL.events.map((event, i) => make("option", { value: String(i), textContent: event.label })));
  byId("event").addEventListener("change", () => {
    state.event = Number(byId("event").value);
    changed();
  });
  byId("grade").append(radios("grade", MODEL.grade_labels.map((label) => [label]), (i) => (state.grade = i)));
}

// A fatal event has one cell for all classes of grades.
function gradesOf(e) {
  return MODEL.events[e].only === null ? MODEL.grades.map((_, g) => g) : [MODEL.events[e].only];
}

function makeTable() {
  const header = (text) => {
    const cell = make("th", { scope: "col", textContent: text });
    cell.setAttribute("role", "columnheader");
    return cell;
  };
  byId("columns").append(header("Toxicity"), ...MODEL.grade_labels.map(header));
  MODEL.events.forEach((event, e) => {
    const name = make("th", { scope: "row", textContent: event.label });
    name.setAttribute("role", "rowheader");
    const cells = gradesOf(e).map((g) => {
      const cell = make("td", { id: `cell-${e}-${g}` });
      cell.setAttribute("role", "cell");
      if (event.only !== null) cell.colSpan = MODEL.grades.length;
      // A short cut for a mouse; the same choice by keyboard is the list of toxicities and the grade beside it.
      cell.addEventListener("click", () => {
        Object.assign(state, { event: e, grade: g });
        changed();
      });
      return cell;
    });
    const row = make("tr", {}, [name, ...cells]);
    row.setAttribute("role", "row");
    byId("rows").append(row);
  });
}

function makeTexts() {
  const percent = `${Math.round(MODEL.interval * 100)}\u00a0%`;
  document.title = `Risk calculator: ${MODEL.title}`;
  setText("title", MODEL.title);
  setText("setting", [`${NUMBERS.format(MODEL.patients)} patients`, MODEL.setting, MODEL.grading].filter(Boolean).join(". ") + ".");
  const fits = [["this model", MODEL.failures], ["the other model", MODEL.beside?.failures ?? []]].filter(([, wrong]) => wrong.length);
  setText("failed", fits.map(([which, wrong]) => `The fit of ${which} failed its checks (${wrong.join("; ")}): do not use it.`).join(" "));
  const time = MODEL.period ? ` in ${MODEL.period}` : "";
  setText("caption", `Of 100 such patients, how many are expected to have it${time}, and the range of the risk (${percent} interval).${
    MODEL.beside ? ` Other fit: ${MODEL.beside.words}.` : ""
  }`);
  setText("counted-heading", `The publication counted${time}`);
  setText("interval", `(${percent} interval)`);
  setText("bars-key", "Scales run from 0 to 100: block, the risk (hollow where it is an assumption); bracket, its range; triangle, the share of all patients that was counted.");
  byId("limits-list").append(...MODEL.notes.map((note) => make("li", { textContent: note })));
  const meanings = Object.entries(SUPPORT_WORDS).flatMap(([name, words]) => [
    make("dt", {}, supportNodes(name)),
    make("dd", { textContent: words }),
  ]);
  byId("supports").append(...meanings);
  byId("citation").append(MODEL.citation);
  if (/^10\.\d{4,9}\/\S+$/.test(MODEL.doi)) {
    const href = `https://doi.org/${encodeURI(MODEL.doi)}`;
    byId("citation").append(" ", make("a", { href, rel: "noreferrer", textContent: `doi:${MODEL.doi}` }));
  }
  setText("licence", MODEL.licence);
  setText("made", `Model ${MODEL.name}, data ${MODEL.digest.slice(0, 16)}${
    MODEL.beside ? `; other fit: ${MODEL.beside.name}, ${MODEL.beside.words}` : ""
  }; written by aemodel ${MODEL.version}.`);
}

function supportNodes(name) {
  return [make("span", { className: `glyph ${name}`, ariaHidden: "true" }), " ", make("b", { textContent: name })];
}

// Answers, at every change.

function render() {
  const nothing = state.chosen.every((_, k) => isUnknown(k));
  state.chosen.forEach((i, k) => (document.getElementsByName(`covariate-${k}`)[i].checked = true));
  document.getElementsByName("grade")[state.grade].checked = true;
  byId("event").value = String(state.event);
  const told = sentencesOf(MODEL, state.chosen, state.event, gradeOf(MODEL, state.event, state.grade));
  byId("grade").hidden = MODEL.grades.length === 1 || MODEL.events[state.event].only !== null;
  MODEL.covariates.forEach((_, k) => {
    if (!isUnknown(k) && byId(`fold-${k}`)) byId(`fold-${k}`).open = true;
  });
  renderProfile(nothing, told.few);
  renderAnswer(told);
  MODEL.events.forEach((_, e) => gradesOf(e).forEach((g) => renderCell(e, g)));
  dateSheets();
  byId("link").value = location.href.replace(/#.*$/, "") + address();
  byId("copied").textContent = "";
}

function renderProfile(nothing, few) {
  const known = MODEL.covariates.filter((_, k) => !isUnknown(k));
  const missing = MODEL.covariates.filter((_, k) => isUnknown(k)).map((covariate) => covariate.label.toLowerCase());
  const words = known.map((covariate) => covariate.levels[state.chosen[MODEL.covariates.indexOf(covariate)]].label);
  if (missing.length && !nothing) words.push(`${missing.join(", ")} not known`);
  setText("profile", nothing ? "Any patient of the cohort" : words.join("; "));
  setText("few", few);
}

function renderAnswer(told) {
  byId("result").classList.toggle("assumed", told.assumed);
  for (const name of ["what", "compared", "beside"]) setText(name, told[name]);
  setData("risk", told.risk, told.mean);
  setData("range", told.range, `${told.lower} ${told.upper}`);
  setText("both-ways", told.both);
  byId("support").replaceChildren("Rests on ", ...supportNodes(told.support), `. ${told.meaning}`);
  fill("counted", told.counted);
  byId("counted-heading").hidden = !told.counted.length;
  setText("uncounted", told.uncounted);
  fill("notes", told.notes);
  byId("dots").replaceChildren(dotsPicture(told));
  byId("dots-key").replaceChildren(...dotsKey(told));
  byId("peek").classList.toggle("assumed", told.assumed);
  setText("peek-event", told.what.replace(/^Assumption: /, ""));
  setText("peek-risk", `${told.assumed ? "Assumption: " : ""}${told.risk}; ${told.range}`);
}

function fill(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => make("li", { textContent: line })));
  byId(id).hidden = !lines.length;
}

function setData(id, words, value) {
  byId(id).textContent = words;
  byId(id).value = String(value);
}

function dotsKey({ assumed, mean }) {
  const having = assumed ? ["assumed", "expected to have it, were the assumption right"] : ["with", "expected to have it"];
  const lines = mean < 0.0095 ? [["without", "fewer than one dot is expected to have it"]] : [having, ["without", "not"]];
  return lines.map(([kind, words]) => make("span", { className: "key" }, [dotSwatch(kind), words]));
}

function renderCell(e, g) {
  const told = sentencesOf(MODEL, state.chosen, e, g);
  const total = MODEL.counts[e][g].find(({ at, low, high, n }) => !Object.keys(at).length && low === high && n);
  const cell = byId(`cell-${e}-${g}`);
  cell.className = told.assumed ? "assumed" : "";
  cell.classList.toggle("shown", e === state.event && g === gradeOf(MODEL, state.event, state.grade));
  cell.replaceChildren(
    make("span", { className: "note", textContent: told.assumed ? "Assumption: " : "" }),
    make("data", { className: "risk", value: String(told.mean), textContent: told.risk }),
    scalePicture(told, total ? total.low / total.n : null),
    make("data", { className: "range", value: `${told.lower} ${told.upper}`, textContent: told.range }),
    make("span", { className: "support" }, supportNodes(told.support)),
  );
  if (told.other) cell.append(make("data", { className: "other note", value: String(told.other.mean), textContent: `other fit: ${inHundred(told.other.mean)}` }));
}

// What each printed sheet says of itself.
function dateSheets() {
  const today = new Date().toLocaleDateString("en-CA");
  setText("sheet", `${byId("profile").textContent}. Printed ${today}; model ${MODEL.name}, data ${MODEL.digest.slice(0, 16)}.`);
}

function changed() {
  setText("problem", "");
  render();
  history.replaceState(null, "", address());
}

async function copyLink() {
  byId("link").select();
  try {
    await navigator.clipboard.writeText(byId("link").value);
    byId("copied").textContent = "Copied.";
  } catch {
    byId("copied").textContent = "This browser does not let the page copy: the link is selected, copy it yourself.";
  }
}

function start() {
  makeControls();
  makeTable();
  makeTexts();
  byId("clear").addEventListener("click", () => {
    state.chosen = unknownOf(MODEL);
    changed();
  });
  byId("copy").addEventListener("click", copyLink);
  // The link of a file opens on this device only.
  byId("share").hidden = !/^https?:$/.test(location.protocol);
  addEventListener("beforeprint", dateSheets);
  byId("peek").addEventListener("click", () => byId("result-heading").focus());
  addEventListener("hashchange", () => {
    readAddress();
    render();
  });
  readAddress();
  render();
}

start();
