// Pictures of a risk, as SVG: a hundred dots, and a bar with its range. Shapes tell what colours tell.

function svg(name, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const DOT_KINDS = {
  sure: "in the range of what it could be, the fewest",
  likely: "expected besides these",
  possible: "more, if it is at the top of the range",
  none: "without it",
};

// Dots of one kind after another: the range's low end, up to the mean, up to the range's high end, the others.
function dotCounts({ mean, lower, upper }) {
  const dots = (risk) => (risk * 100 < 0.95 ? 0 : Math.round(risk * 100));
  const [low, middle, high] = [dots(lower), dots(mean), dots(upper)];
  return { sure: low, likely: middle - low, possible: high - middle, none: 100 - high };
}

function dot(kind, x, y) {
  return svg("circle", { class: `dot ${kind}`, cx: x, cy: y, r: kind === "none" ? 2.4 : 3.7 });
}

function dotsPicture(answer, what) {
  const kinds = Object.entries(dotCounts(answer)).flatMap(([kind, count]) => Array(count).fill(kind));
  const dots = kinds.map((kind, i) => dot(kind, 5 + 10 * (i % 10), 5 + 10 * Math.floor(i / 10)));
  const label = `100 dots for 100 such patients. ${what}: ${riskInWords(answer.mean)}, ${rangeInWords(answer)}.`;
  return svg("svg", { viewBox: "0 0 100 100", role: "img", "aria-label": label }, dots);
}

function dotSwatch(kind) {
  return svg("svg", { viewBox: "0 0 10 10", class: "swatch", "aria-hidden": "true" }, [dot(kind, 5, 5)]);
}

function barPicture({ mean, lower, upper }, average) {
  const at = (risk) => 2 + 196 * risk;
  return svg("svg", { viewBox: "0 0 200 14", class: "bar", "aria-hidden": "true", preserveAspectRatio: "none" }, [
    svg("line", { class: "axis", x1: at(0), x2: at(1), y1: 7, y2: 7 }),
    svg("rect", { class: "interval", x: at(lower), width: Math.max(at(upper) - at(lower), 1), y: 4, height: 6 }),
    svg("line", { class: "average", x1: at(average), x2: at(average), y1: 0, y2: 14 }),
    svg("rect", { class: "mean", x: at(mean) - 1.5, width: 3, y: 2, height: 10 }),
  ]);
}
