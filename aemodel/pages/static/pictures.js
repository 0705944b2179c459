// Pictures of a risk, as SVG: a hundred dots, and a scale with a bracket for its range. Shapes tell what colours tell.

function svg(name, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Full: with it. Hatched: with it, were the assumption right. Empty: without it.
function dot(kind, x, y) {
  const circle = svg("circle", { class: `dot ${kind}`, cx: x, cy: y, r: kind === "without" ? 2.4 : 3.7 });
  const lines = kind === "assumed" ? [-3, 0, 3].map((by) => hatch(x + by / 2, y + by / 2, 3.2 - Math.abs(by) / 3)) : [];
  return svg("g", {}, [circle, ...lines]);
}

function hatch(x, y, half) {
  const reach = half * Math.SQRT1_2;
  return svg("line", { class: "hatch", x1: x - reach, x2: x + reach, y1: y + reach, y2: y - reach });
}

function dotsPicture(told) {
  const having = told.mean < 0.0095 ? 0 : Math.round(told.mean * 100);
  const kinds = Array.from({ length: 100 }, (_, i) => (i >= having ? "without" : told.assumed ? "assumed" : "with"));
  const dots = kinds.map((kind, i) => dot(kind, 5 + 10 * (i % 10), 5 + 10 * Math.floor(i / 10)));
  const label = `100 dots for 100 such patients. ${told.what}: ${told.risk}.`;
  return svg("svg", { viewBox: "0 0 100 100", role: "img", "aria-label": label }, dots);
}

function dotSwatch(kind) {
  return svg("svg", { viewBox: "0 0 10 10", class: "swatch", "aria-hidden": "true" }, [dot(kind, 5, 5)]);
}

const TICKS = [0, 0.25, 0.5, 0.75, 1];

// From 0 to 100, with ticks: a bracket for the range, a block for the risk (hollow where it is assumed), a triangle for the count.
function scalePicture({ mean, lower, upper, assumed }, published) {
  const at = (risk) => 4 + 192 * risk;
  const line = (kind, x1, x2, y1, y2) => svg("line", { class: kind, x1, x2, y1, y2 });
  const [low, high] = [at(lower), at(upper)];
  const parts = [
    line("axis", at(0), at(1), 13, 13),
    ...TICKS.map((risk) => line("axis", at(risk), at(risk), 11, 15)),
    line("bracket", low, high, 6, 6),
    line("bracket", low, low, 3, 9),
    line("bracket", high, high, 3, 9),
    svg("rect", { class: "mean", x: at(mean) - 2, width: 4, y: 2, height: 8 }),
  ];
  if (published !== null) parts.push(svg("path", { class: "counted", d: `M${at(published)} 14l3.2 5h-6.4z` }));
  return svg("svg", { viewBox: "0 0 200 20", class: `scale${assumed ? " assumed" : ""}`, "aria-hidden": "true" }, parts);
}
