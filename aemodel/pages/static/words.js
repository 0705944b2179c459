// Risks in words. Nothing here knows of the page.

const SUPPORT_WORDS = {
  data: "What sets this risk apart from the average rests mostly on published numbers of this very toxicity.",
  pooled: "What sets this risk apart from the average was mostly learned from published numbers of other toxicities.",
  prior: "What sets this risk apart from the average mostly rests on no published number: it is an assumption of the model.",
};

const UNPUBLISHED = "The publication does not give this toxicity at this grade: this answer is an assumption of the model.";

const NUMBERS = new Intl.NumberFormat("en-US");

// Patients out of `base`. Whoever rounds to nobody is "fewer than 1", never 0: a risk is never nil.
function patients(risk, base) {
  const expected = risk * base;
  if (expected < 0.95) return "fewer than 1";
  if (expected > base - 0.95) return `more than ${NUMBERS.format(base - 1)}`;
  return NUMBERS.format(Math.round(expected));
}

// Small risks keep the one denominator that makes toxicities comparable, and say the rest out of 1,000.
function baseOf(risk) {
  return risk * 100 < 0.95 ? 1000 : 100;
}

function riskInWords(risk) {
  return `${patients(risk, 100)} in 100`;
}

function rangeInWords({ mean, lower, upper }) {
  const base = baseOf(mean);
  const [low, high] = [patients(lower, base), patients(upper, base)];
  const range = low === high ? low : `${low} to ${high}`;
  return `could be ${range}${base === 100 ? "" : ` in ${NUMBERS.format(base)}`}`;
}

function bothWays({ mean }) {
  const base = baseOf(mean);
  const have = patients(mean, base);
  const number = Number(have.replace(/\D/g, ""));
  const not = /^\d/.test(have) ? `${NUMBERS.format(base - number)} would not` : "the others would not";
  return `Of ${NUMBERS.format(base)} such patients, ${/^\d/.test(have) ? "about " : ""}${have} would have it and ${not}.`;
}

// Two sentences: the comparison, and how sure it is.
function comparison(answer, average, nothingChosen) {
  if (nothingChosen) return ["Nothing is chosen yet: this is the average over the cohort.", ""];
  const ratio = answer.mean / average;
  const base = baseOf(average);
  const usual = `the cohort's average (${patients(average, base)} in ${NUMBERS.format(base)})`;
  const times = ratio < 0.1 ? "Less than a tenth of" : `About ${ratio.toFixed(ratio < 10 ? 1 : 0)} times`;
  const inside = average >= answer.lower && average <= answer.upper;
  return [
    ratio > 0.9 && ratio < 1.1 ? `About the same as ${usual}.` : `${times} ${usual}.`,
    `The average lies ${inside ? "within" : "outside"} the range of what this patient's risk could be.`,
  ];
}
