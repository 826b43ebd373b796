"use strict";
// One image: its picture with an overlay, the texts, the statuses. Every text becomes a text node, never markup.

// An element with attributes and children. A child that is a string becomes text, null is left out.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const percent = (share) => `${Math.round(100 * share)} %`;
const RAMP = bytes(document.getElementById("ramp").content.textContent);
const BLANK = "blank";
const look = { strength: 0.65 }; // kept from image to image

// The weight of a map at a point of the picture, between its patches linearly; (0, 0) is the first patch's centre.
function weightAt(map, x, y) {
  const [column, row] = [Math.min(Math.max(x, 0), map.width - 1), Math.min(Math.max(y, 0), map.height - 1)];
  const [left, top] = [Math.floor(column), Math.floor(row)];
  const [right, below] = [Math.min(left + 1, map.width - 1), Math.min(top + 1, map.height - 1)];
  const [a, b] = [column - left, row - top];
  const at = (i, j) => map.weights[i * map.width + j];
  return (1 - b) * ((1 - a) * at(top, left) + a * at(top, right)) + b * ((1 - a) * at(below, left) + a * at(below, right));
}

// Colour the canvas by a map; without one it is clear. High weights cover more: the anatomy stays visible elsewhere.
function drawMap(canvas, map, strength) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (!map) return;
  const pixels = context.createImageData(width, height);
  for (let y = 0, place = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, place += 4) {
      const weight = weightAt(map, ((x + 0.5) / width) * map.width - 0.5, ((y + 0.5) / height) * map.height - 0.5);
      pixels.data.set(RAMP.subarray(3 * Math.round(weight), 3 * Math.round(weight) + 3), place);
      pixels.data[place + 3] = strength * (0.2 * 255 + 0.8 * weight);
    }
  }
  context.putImageData(pixels, 0, 0);
}

// The picture, its overlay, and the choice between the texts whose attention it shows.
function picturePane(report) {
  const maps = report.attention.map((entry) => ({ ...entry, weights: bytes(entry.values) }));
  const picture = make("img", { src: report.picture, alt: `Radiograph ${report.name}`, decoding: "async" });
  const canvas = make("canvas", { width: report.width, height: report.height, "aria-hidden": "true" });
  const pane = make("div", { class: "pane" }, picture, canvas);
  if (!maps.length) return make("section", { class: "look", "aria-label": "Picture" }, pane);

  const caption = make("p", { class: "caption", role: "status" });
  const strength = make("input", { type: "range", min: 0, max: 100, value: Math.round(100 * look.strength) });
  let chosen = null;
  const show = (map) => {
    drawMap(canvas, map, look.strength);
    strength.disabled = !map;
    const constant = map && map.constant ? " (the same everywhere)" : "";
    const of = { sentence: "Attention of the retrieved sentence", entity: "Attention of the entity" };
    if (map) caption.replaceChildren(`${of[map.kind]} `, make("q", null, map.text), constant);
    else caption.replaceChildren("The picture as the model saw it");
  };
  strength.addEventListener("input", () => {
    look.strength = strength.value / 100;
    drawMap(canvas, chosen, look.strength);
  });
  const choice = (map, text) => {
    const input = make("input", { type: "radio", name: "map", checked: map === null });
    input.addEventListener("change", () => show((chosen = map)));
    const label = make("label", { class: "choice" }, input, make("span", null, text));
    // A mouse that rests on a text shows its map; the choice itself comes back when it leaves.
    label.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(map));
    label.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(chosen));
    return label;
  };
  const group = (kind, heading) => {
    const some = maps.filter((map) => map.kind === kind);
    if (!some.length) return null;
    const list = make("div", { class: `choices ${kind}`, role: "group", "aria-label": heading }, ...some.map((map) => choice(map, map.text)));
    return make("div", null, make("h4", null, heading), list);
  };
  show(null);
  const slider = make("label", { class: "strength" }, make("span", null, "Overlay"), strength, make("span", { class: "ramp", title: "from the lowest to the highest weight of a map" }));
  return make("section", { class: "look", "aria-label": "Picture and attention" }, make("div", { class: "stage" }, pane, caption, slider),
    make("fieldset", null, make("legend", null, "Where the model looked"),
      make("div", { class: "choices none" }, choice(null, "No overlay")),
      group("sentence", "For each sentence of the retrieved report"),
      group("entity", "For each entity that it found present")),
    make("p", { class: "note" }, "Each map is scaled from its own lowest to its own highest weight: it shows where, not how much, and is no measure of certainty."));
}

// A text whose phrases have the colour of the sentence that they share with another text.
function marked(pieces) {
  if (!pieces.length) return make("p", { class: "text" }, make("i", null, "empty"));
  return make("p", { class: "text" }, ...pieces.map(([text, colour]) => (colour < 0 ? text : make("mark", { class: `c${colour}` }, text))));
}

function texts(report) {
  const retrieved = report.retrieved.map((found, i) => {
    const distance = found.distance === null ? "" : `, distance ${found.distance.toFixed(3)}`;
    const text = found.report === null ? make("p", { class: "soft" }, "The model\u2019s folder has no report texts.") : marked(found.report);
    return make("div", null, make("h3", null, i ? `Retrieved, ${i + 1}` : "Retrieved report"), make("p", { class: "origin" }, `${found.id}${distance}`), text);
  });
  const reference = report.reference && make("div", null, make("h3", null, "Reference"), make("p", { class: "origin" }, "given with the image"), marked(report.reference));
  const [first, ...others] = retrieved;
  const beside = [first || null, reference].filter((part) => part);
  if (!beside.length) return null;
  return make("section", { class: "beside", "aria-label": "Retrieved and reference report" },
    make("div", { class: "columns" }, ...beside),
    others.length ? make("details", null, make("summary", null, `${others.length} more retrieved`), ...others) : null);
}

// One line: the category, its probabilities as a bar, P(positive), and what was decided.
function statusRow(status) {
  const p = status.probabilities;
  const bar = make("span", { class: "shares", "aria-hidden": "true" });
  for (const name of ["positive", "uncertain", "negative"]) {
    const share = make("i", { class: name });
    share.style.width = `${100 * (p[name] || 0)}%`;
    bar.append(share);
  }
  const said = Object.entries(p).map(([name, value]) => `${name} ${percent(value)}`).join(", ");
  const decided = make("span", { class: "decided" }, make("span", { class: `tag ${status.status}` }, status.status), " ", status.given ? make("span", { class: "tag given" }, "given") : null);
  return make("li", { title: said }, make("span", { class: "category" }, status.category), bar, make("span", { class: "share" }, make("span", { class: "hidden" }, "P(positive) "), percent(p.positive || 0)), decided);
}

function statuses(report) {
  if (!report.statuses.length) return null;
  const list = (some) => make("ul", { class: "statuses" }, ...some.map(statusRow));
  const order = ["positive", "uncertain", "negative", BLANK];
  const stated = report.statuses.filter((status) => status.status !== BLANK || status.given);
  stated.sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status) || b.probabilities.positive - a.probabilities.positive);
  const blank = report.statuses.filter((status) => !stated.includes(status));
  const key = order.slice(0, 3).map((name) => make("span", { class: `key ${name}` }, name));
  return make("section", null, make("h3", null, "Statuses that the report is written from"),
    make("p", { class: "note" }, "Probability of ", ...key.flatMap((part, i) => (i ? [", ", part] : [part])), "; the rest of a bar: not mentioned. The number is P(positive)."),
    stated.length ? list(stated) : make("p", { class: "soft" }, "No category is mentioned."),
    blank.length ? make("details", null, make("summary", null, `${blank.length} ${blank.length === 1 ? "category" : "categories"} not mentioned`), list(blank)) : null);
}

function clues(report) {
  if (!report.clues.length) return null;
  const most = Math.max(...report.clues.map(([, weight]) => Math.abs(weight)), 1e-9);
  const rows = report.clues.map(([text, weight]) => {
    const share = make("i", { class: "clue" });
    share.style.width = `${(100 * Math.abs(weight)) / most}%`;
    return make("li", null, make("span", { class: "category" }, text), make("span", { class: "shares", "aria-hidden": "true" }, share), make("span", { class: "share" }, weight.toFixed(3)));
  });
  return make("section", null, make("h3", null, "Clues given to the language model"), make("ul", { class: "statuses clues" }, ...rows));
}

function scores(report) {
  const found = Object.entries(report.scores).filter(([, value]) => value !== null);
  if (!found.length) return null;
  const tiles = found.map(([name, value]) => make("div", { class: "tile" }, make("b", null, value.toFixed(3)), make("span", null, name)));
  return make("section", null, make("h3", null, "Scores against the reference"), make("div", { class: "tiles" }, ...tiles));
}

// Everything of one image. steps: what leads to the others, null where there are none.
function singleView(report, steps) {
  const colours = report.report.some(([, colour]) => colour >= 0);
  const title = report.taken ? "The nearest training report" : "Generated report";
  const matched = report.reference ? "the reference" : "the retrieved report";
  const warnings = report.warnings.map((warning) => make("p", { class: "notice warning" }, make("b", null, "Warning. "), warning));
  return [
    make("div", { class: "heading" }, make("h2", { tabindex: "-1" }, report.name), steps),
    ...warnings,
    make("div", { class: "single" },
      make("section", { class: "written", "aria-label": title }, make("h3", null, title), marked(report.report),
        colours ? make("p", { class: "note" }, `Coloured phrases share their words with the sentence of that colour in ${matched}. A denial never matches an assertion.`) : null),
      picturePane(report),
      make("div", { class: "rest" }, texts(report), statuses(report), clues(report), scores(report))),
  ].filter((part) => part !== null);
}
