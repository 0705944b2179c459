// The page: what is chosen, its answers looked up in the table, and both kept in the address. All text of the model is
// set as text, never as markup.

const MODEL = JSON.parse(document.getElementById("model").textContent);
const STATISTICS = 3;

// `chosen` holds a position per covariate; the one after the last level is "not known".
const state = { chosen: unknown(), event: 0, grade: 0 };

function unknown() {
  return MODEL.covariates.map((covariate) => covariate.levels.length);
}

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

// Profiles are counted with the last covariate fastest; "not known" comes after the levels.
function answerOf(chosen, event, grade) {
  const profile = MODEL.covariates.reduce((row, covariate, k) => row * (covariate.levels.length + 1) + chosen[k], 0);
  const place = (profile * MODEL.events.length + event) * MODEL.grades.length + grade;
  const [mean, lower, upper] = MODEL.risks.slice(STATISTICS * place, STATISTICS * (place + 1));
  return { mean, lower, upper, support: MODEL.supports[Number(MODEL.support[place])] };
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
    const labels = [...covariate.levels.map((level) => [level.label]), ["Not known", "(averaged over the cohort)"]];
    const group = radios(`covariate-${k}`, labels, (i) => (state.chosen[k] = i));
    byId("covariates").append(make("fieldset", {}, [make("legend", { textContent: covariate.label }), group]));
  });
  byId("event").append(...MODEL.events.map((event, i) => make("option", { value: String(i), textContent: event.label })));
  byId("event").addEventListener("change", () => {
    state.event = Number(byId("event").value);
    changed();
  });
  byId("grade").hidden = MODEL.grades.length === 1;
  byId("grade").append(radios("grade", MODEL.grade_labels.map((label) => [label]), (i) => (state.grade = i)));
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
    const cells = MODEL.grades.map((_, g) => {
      const cell = make("td", { id: `cell-${e}-${g}` });
      cell.setAttribute("role", "cell");
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
  setText("failed", MODEL.failures.length ? `The fit of this model failed its checks (${MODEL.failures.join("; ")}): do not use it.` : "");
  setText("caption", `Of 100 such patients, how many would have it, and the range (${percent} interval) of what that could be.`);
  setText("interval", `(${percent} interval)`);
  setText("bars-key", "Bars run from 0 to 100: mark, the risk; band, its range; thin line, the cohort's average.");
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
  setText("made", `Model ${MODEL.name}, data ${MODEL.digest.slice(0, 16)}; written by aemodel ${MODEL.version}.`);
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
  renderProfile(nothing);
  renderAnswer(nothing);
  MODEL.events.forEach((_, e) => MODEL.grades.forEach((_, g) => renderCell(e, g)));
  byId("link").value = location.href.replace(/#.*$/, "") + address();
  byId("copied").textContent = "";
}

function renderProfile(nothing) {
  const known = MODEL.covariates.filter((_, k) => !isUnknown(k));
  const missing = MODEL.covariates.filter((_, k) => isUnknown(k)).map((covariate) => covariate.label.toLowerCase());
  const words = known.map((covariate) => covariate.levels[state.chosen[MODEL.covariates.indexOf(covariate)]].label);
  if (missing.length && !nothing) words.push(`${missing.join(", ")} not known`);
  setText("profile", nothing ? "Any patient of the cohort" : words.join("; "));
}

function renderAnswer(nothing) {
  const answer = answerOf(state.chosen, state.event, state.grade);
  const average = answerOf(unknown(), state.event, state.grade).mean;
  const label = MODEL.grade_labels[state.grade];
  const what = `${MODEL.events[state.event].label}, ${label.charAt(0).toLowerCase()}${label.slice(1)}`;
  setText("what", what);
  setData("risk", riskInWords(answer.mean), answer.mean);
  setData("range", rangeInWords(answer), `${answer.lower} ${answer.upper}`);
  const [compared, sure] = comparison(answer, average, nothing);
  byId("compared").replaceChildren(make("strong", { textContent: compared }), ` ${sure}`);
  setText("both-ways", bothWays(answer));
  const published = MODEL.published[state.event][state.grade];
  const meaning = published ? SUPPORT_WORDS[answer.support] : UNPUBLISHED;
  byId("support").replaceChildren("Rests on ", ...supportNodes(answer.support), `. ${meaning}`);
  byId("dots").replaceChildren(dotsPicture(answer, what));
  byId("dots-key").replaceChildren(...dotsKey(answer));
  setText("peek-event", what);
  setText("peek-risk", riskInWords(answer.mean));
}

function setData(id, words, value) {
  byId(id).textContent = words;
  byId(id).value = String(value);
}

function dotsKey(answer) {
  const { sure, likely, possible } = dotCounts(answer);
  const lines = [];
  if (sure) lines.push(["sure", "the fewest it could be"]);
  if (likely) lines.push(["likely", "up to what is expected"]);
  if (possible) lines.push(["possible", "up to the most it could be"]);
  lines.push(["none", sure + likely ? "without it" : "without it: fewer than one dot is expected to have it"]);
  return lines.map(([kind, words]) => make("span", { className: "key" }, [dotSwatch(kind), words]));
}

function renderCell(e, g) {
  const answer = answerOf(state.chosen, e, g);
  const average = answerOf(unknown(), e, g).mean;
  const cell = byId(`cell-${e}-${g}`);
  cell.classList.toggle("shown", e === state.event && g === state.grade);
  cell.replaceChildren(
    make("data", { className: "risk", value: String(answer.mean), textContent: riskInWords(answer.mean) }),
    barPicture(answer, average),
    make("data", { className: "range", value: `${answer.lower} ${answer.upper}`, textContent: rangeInWords(answer) }),
    make("span", { className: "support" }, supportNodes(answer.support)),
  );
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
    state.chosen = unknown();
    changed();
  });
  byId("copy").addEventListener("click", copyLink);
  byId("peek").addEventListener("click", () => byId("result-heading").focus());
  addEventListener("hashchange", () => {
    readAddress();
    render();
  });
  readAddress();
  render();
}

start();
