// Answers and their sentences. Nothing here knows of the document. Risks are out of 100 throughout, small ones as decimals.

const STATISTICS = 3;

const SUPPORT_WORDS = {
  data: "Published numbers tell most of the difference from the cohort, those of this very toxicity more than those of others.",
  pooled: "Published numbers tell most of the difference from the cohort, those of other toxicities more than those of this one.",
  prior: "Most of the difference from the cohort rests on no published number: it is an assumption of the model.",
};

const UNPUBLISHED = "The publication does not give this toxicity at this grade: all of this answer is an assumption of the model.";

const GIVEN = "The publication gives this toxicity at this grade.";

const NUMBERS = new Intl.NumberFormat("en-US");

// A risk that would round to nobody is below 0.1, never 0; only what was counted can be nil.
function hundred(risk, fine = risk < 0.0095 || risk > 0.9905) {
  const expected = risk * 100;
  if (expected < 0.05) return "fewer than 0.1";
  if (expected > 99.95) return "more than 99.9";
  return fine ? expected.toFixed(1) : String(Math.round(expected));
}

function inHundred(risk) {
  return `${hundred(risk)} in 100`;
}

function rangeInWords({ lower, upper }) {
  const [low, high] = [hundred(lower), hundred(upper)];
  if (high.startsWith("fewer")) return "risk below 0.1 in 100";
  if (low.startsWith("more")) return "risk above 99.9 in 100";
  if (low.startsWith("fewer")) return `risk below ${high} in 100`;
  if (high.startsWith("more")) return `risk above ${low} in 100`;
  return low === high ? `risk about ${low} in 100` : `risk between ${low} and ${high} in 100`;
}

// Profiles are counted with the last covariate fastest; "not known" comes after the levels.
function answerOf(model, chosen, event, grade) {
  const profile = model.covariates.reduce((row, covariate, k) => row * (covariate.levels.length + 1) + chosen[k], 0);
  const place = (profile * model.events.length + event) * model.grades.length + grade;
  const [mean, lower, upper] = model.risks.slice(STATISTICS * place, STATISTICS * (place + 1));
  return { mean, lower, upper, support: model.supports[Number(model.support[place])], patients: model.expected[profile] };
}

// The same answer of the other fit, on a page of two.
function besideOf(model, chosen, event, grade) {
  return model.beside && answerOf({ ...model, ...model.beside }, chosen, event, grade);
}

function besideInWords(model, answer, other) {
  if (!other) return "";
  const assumed = other.support === "prior" ? " (an assumption there)" : "";
  return `${inHundred(answer.mean)}; ${inHundred(other.mean)}, ${rangeInWords(other)}, ${model.beside.words}${assumed}.`;
}

// Death is one thing, whatever the class of grades.
function gradeOf(model, event, grade) {
  return model.events[event].only ?? grade;
}

function knownOf(model, chosen) {
  return model.covariates.flatMap((covariate, k) => (chosen[k] < covariate.levels.length ? [k] : []));
}

// Published rows that count this patient: for each set of covariates, the one of fewest levels.
function rowsOf(model, chosen, event, grade) {
  const closest = new Map();
  for (const row of model.counts[event][grade]) {
    const places = Object.entries(row.at);
    if (!places.every(([k, levels]) => levels.includes(chosen[k]))) continue;
    const key = Object.keys(row.at).join();
    const size = places.reduce((product, [, levels]) => product * levels.length, 1);
    if (!closest.has(key) || size < closest.get(key).size) closest.set(key, { ...row, key, size });
  }
  return [...closest.values()];
}

function countInWords({ low, high, n }) {
  return `${low === high ? "" : `${NUMBERS.format(low)} to `}${NUMBERS.format(high)} of ${NUMBERS.format(n)}`;
}

function shareInWords({ low, high, n }) {
  return low !== high || !n ? "" : `${low ? hundred(low / n) : "0"} in 100`;
}

function countSentence(row) {
  return `${row.label}: ${[countInWords(row), shareInWords(row)].filter(Boolean).join(", ")}`;
}

// The risk against what was counted of everybody: both, the difference between them as shown, and a ratio of what is not rare.
function difference(mean, usual) {
  const fine = Math.min(mean, usual) < 0.0095 || Math.max(mean, usual) > 0.9905;
  const [own, base] = [hundred(mean, fine), usual ? hundred(usual, fine) : "0"];
  const apart = Number(own) - Number(base);
  const enough = fine ? 0.05 : 0.5;
  const same = own === base || Math.abs(mean - usual) * 100 < enough;
  const amount = Number.isNaN(apart) ? `${hundred(Math.abs(mean - usual), true)}` : Math.abs(apart).toFixed(fine ? 1 : 0);
  const times = mean / usual;
  const ratio = Math.min(mean, usual) < 0.01 || (times > 0.95 && times < 1.05) ? "" : `, ${times.toFixed(1)} times as many`;
  return { own, base, same, words: `${amount} ${mean > usual ? "more" : "fewer"}${ratio}` };
}

// All that is said of one answer. What rests on assumption says so first, and is not compared.
function sentencesOf(model, chosen, event, grade) {
  const answer = answerOf(model, chosen, event, grade);
  const rows = rowsOf(model, chosen, event, grade);
  const total = rows.find((row) => row.key === "");
  const known = knownOf(model, chosen);
  const assumed = answer.support === "prior";
  const time = model.period ? ` in ${model.period}` : "";
  const label = model.grade_labels[grade];
  const at = model.events[event].only === null ? `, ${label.charAt(0).toLowerCase()}${label.slice(1)}` : "";
  const start = assumed ? "Assumption: " : "";
  const other = besideOf(model, chosen, event, grade);
  const compared = comparison(model, { answer, total, known, assumed, time, event, grade });
  return {
    ...answer,
    assumed,
    what: `${start}${model.events[event].label}${at}${time && `,${time}`}`,
    risk: inHundred(answer.mean),
    range: rangeInWords(answer),
    compared: compared.words,
    other,
    beside: besideInWords(model, answer, other),
    both: assumed ? "" : bothWays(answer, time),
    meaning: supportMeaning(model, { answer, known, same: compared.same, event, grade }),
    few: known.length && answer.patients < 10 ? fewInWords(model, answer) : "",
    counted: rows.map(countSentence),
    uncounted: uncounted(model, { chosen, known, rows, event, grade }),
    notes: model.notes_on[event].filter((note) => appliesTo(note, model.grades[grade], chosen)).map((note) => note.text),
  };
}

function comparison(model, { answer, total, known, assumed, time, event, grade }) {
  const exact = total && total.low === total.high && total.n;
  const counted = total ? `${countInWords(total)}${exact ? ` (${shareInWords(total)})` : ""}` : "";
  if (!known.length) {
    return { same: true, words: counted ? `Nothing is chosen: this is the whole cohort, of whom ${counted} had it${time}.` : "" };
  }
  if (assumed) {
    return { words: counted ? `Of all patients ${counted} had it${time}: that was counted. How this patient differs is mostly assumed.` : "" };
  }
  if (exact && !total.low) {
    return { same: true, words: `Of all patients ${counted} had it${time}: too rare to tell how this patient differs.` };
  }
  const usual = exact ? total.low / total.n : answerOf(model, unknownOf(model), event, grade).mean;
  const { own, base, same, words } = difference(answer.mean, usual);
  const whose = exact ? `overall (${countInWords(total)})` : "overall by the model";
  const inside = usual >= answer.lower && usual <= answer.upper;
  const place = inside ? "inside" : "outside";
  const doubt = inside ? ", so that a difference is not certain" : "";
  const range = same ? "" : ` The overall figure lies ${place} the range of this patient's risk${time}${doubt}.`;
  return { same, words: `${own} in 100, against ${base} in 100 ${whose}: ${same ? "about the same" : words}${time}.${range}` };
}

function unknownOf(model) {
  return model.covariates.map((covariate) => covariate.levels.length);
}

function supportMeaning(model, { answer, known, same, event, grade }) {
  if (!model.published[event][grade]) return UNPUBLISHED;
  if (!known.length) return GIVEN;
  return same && answer.support !== "prior" ? "There is hardly a difference from the cohort to tell of." : SUPPORT_WORDS[answer.support];
}

function bothWays({ mean }, time) {
  const have = hundred(mean, false);
  const number = Math.round(mean * 100);
  if (mean < 0.0095) return `Of 100 such patients, fewer than 1 is expected to have it${time}.`;
  if (mean > 0.9905) return `Of 100 such patients, fewer than 1 is expected not to have it${time}.`;
  return `Of 100 such patients, about ${have} would have it${time} and ${100 - number} would not.`;
}

function fewInWords(model, { patients }) {
  const number = patients < 0.95 ? "fewer than 1" : `about ${Math.round(patients)}`;
  return `Fewer than 10 of the ${NUMBERS.format(model.patients)} patients are expected to be like this: ${number}.`;
}

// What is known and not counted: a covariate by which nothing was, or a level that is in no row, though others are; and what
// the fit took that for.
function uncounted(model, { chosen, known, rows, event, grade }) {
  const those = (counts) => new Set(counts.flatMap((row) => Object.keys(row.at)));
  const [here, anywhere] = [those(rows), those(model.counts[event][grade])];
  const missing = known.filter((k) => !here.has(String(k))).map((k) => {
    const { label, levels } = model.covariates[k];
    return anywhere.has(String(k)) ? `for ${levels[chosen[k]].label}` : `by ${label.toLowerCase()}`;
  });
  const assumed = model.assumed[event][grade].filter((k) => known.includes(k)).map((k) => `by ${model.covariates[k].label.toLowerCase()}`);
  const taken = assumed.length ? ` Assumed to have been tested and not significant, which narrows the range: ${assumed.join(", ")}.` : "";
  return missing.length ? `Not published for this toxicity at this grade: ${missing.join(", ")}.${taken}` : "";
}

function appliesTo({ grade, at }, shown, chosen) {
  return (!grade || grade === shown) && Object.entries(at).every(([k, levels]) => levels.includes(chosen[k]));
}
