"use strict";
// The gallery: which images are shown and in which order, and the way to one of them and back.

const gallery = document.getElementById("gallery");
const cards = document.getElementById("cards");
const single = document.getElementById("view");
const control = (name) => document.getElementById(name);
const all = []; // { report, card, words, positive }
const state = { item: null, scrolled: 0 }; // the image that is open, and where the gallery was left
let shown = []; // those of `all` that the filters let through, in the chosen order

const NO_FINDING = "no finding"; // a category whose positive says that there is nothing
const plain = (pieces) => (pieces || []).map(([text]) => text).join("");
// A picture is decoded when its card comes near the window, so that a thousand of them cost nothing at first.
const sources = new WeakMap();
const near = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    entry.target.src = sources.get(entry.target);
    near.unobserve(entry.target);
  }
}, { rootMargin: "600px" });

function add(report) {
  const positive = report.statuses.filter((status) => status.status === "positive").map((status) => status.category);
  const findings = positive.filter((name) => name !== NO_FINDING);
  const some = findings.length > 3 ? [...findings.slice(0, 3), `${findings.length - 3} more`] : findings;
  const words = [report.name, plain(report.report), plain(report.reference)].join(" ").toLowerCase();
  const item = { report, words, positive, findings, place: all.length };
  const picture = make("img", { alt: "", width: report.width, height: report.height, decoding: "async" });
  sources.set(picture, report.picture);
  near.observe(picture);
  item.score = make("span", { class: "value" });
  const link = make("a", { href: `#image-${item.place + 1}`, tabindex: "-1" }, picture,
    make("span", { class: "name" }, report.name),
    report.warnings.length ? make("span", { class: "tag uncertain" }, report.warnings.length === 1 ? "1 warning" : `${report.warnings.length} warnings`) : null,
    item.score,
    make("span", { class: "start" }, plain(report.report) || "empty"), make("span", { class: "positives" }, some.join(", ")));
  item.link = link;
  item.card = make("li", null, link);
  all.push(item);
  return item;
}

// The choices follow from the images: findings that are positive somewhere, scores that some image has.
function fillChoices() {
  const option = (value, text) => make("option", { value }, text);
  const counts = new Map();
  for (const item of all) for (const name of item.positive) counts.set(name, (counts.get(name) || 0) + 1);
  const names = [...counts.keys()].sort();
  const scoreNames = [...new Set(all.flatMap((item) => Object.keys(item.report.scores)))];
  const probable = all.some((item) => item.report.statuses.length);
  const kept = ["finding", "sort", "score"].map((name) => [name, control(name).value]);
  control("finding").replaceChildren(option("", "any"), ...names.map((name) => option(name, `${name} (${counts.get(name)})`)));
  control("score").replaceChildren(...scoreNames.map((name) => option(name, name)));
  control("sort").replaceChildren(option("place", "order given"), option("name", "name"),
    ...(probable ? [option("findings", "most positive findings")] : []),
    ...scoreNames.flatMap((name) => [option(`high ${name}`, `${name}, highest first`), option(`low ${name}`, `${name}, lowest first`)]));
  for (const [name, value] of kept) if ([...control(name).options].some((one) => one.value === value)) control(name).value = value;
  control("finding").parentElement.hidden = !names.length;
  document.querySelector(".scored").hidden = !scoreNames.length;
}

function compare(key) {
  const natural = (a, b) => a.report.name.localeCompare(b.report.name, undefined, { numeric: true });
  if (key === "name") return natural;
  if (key === "findings") return (a, b) => b.findings.length - a.findings.length || a.place - b.place;
  if (key === "place" || !key) return (a, b) => a.place - b.place;
  const [direction, name] = [key.startsWith("high ") ? -1 : 1, key.slice(key.indexOf(" ") + 1)];
  const known = (item) => Number.isFinite(item.report.scores[name]);
  const value = (item) => item.report.scores[name];
  return (a, b) => known(b) - known(a) || (known(a) ? direction * (value(a) - value(b)) : 0) || a.place - b.place;
}

function arrange() {
  const words = control("search").value.toLowerCase().split(/\s+/).filter((word) => word);
  const [finding, score, sort] = ["finding", "score", "sort"].map((name) => control(name).value);
  const limit = (name) => (control(name).value === "" ? null : Number(control(name).value));
  const [least, most] = [limit("least"), limit("most")];
  const fits = ({ words: text, positive, report }) => {
    const value = report.scores[score];
    return words.every((word) => text.includes(word)) && (!finding || positive.includes(finding)) &&
      (least === null || (Number.isFinite(value) && value >= least)) && (most === null || (Number.isFinite(value) && value <= most));
  };
  shown = all.filter(fits).sort(compare(sort));
  const named = /^(?:high|low) /.test(sort) ? sort.slice(sort.indexOf(" ") + 1) : score;
  for (const item of shown) {
    const value = item.report.scores[named];
    item.score.textContent = Number.isFinite(value) ? `${named} ${value.toFixed(3)}` : "";
    item.link.tabIndex = -1;
  }
  if (shown.length) shown[0].link.tabIndex = 0; // one stop of the tab key; arrows go on from there
  cards.replaceChildren(...shown.map((item) => item.card));
  const filtered = shown.length < all.length;
  control("count").textContent = filtered ? `${shown.length} of ${all.length} images` : `${all.length} images`;
  control("reset").hidden = !filtered;
}

function goTo(link) {
  for (const item of shown) item.link.tabIndex = item.link === link ? 0 : -1;
  link.focus();
}

// Arrow keys among the cards: left and right by one, up and down by a row, Home and End to the ends.
function step(event) {
  const here = shown.findIndex((item) => item.link === document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const top = shown[0].card.offsetTop;
  const wide = shown.findIndex((item) => item.card.offsetTop !== top);
  const row = wide < 0 ? shown.length : wide;
  const to = { ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - row, ArrowDown: here + row, Home: 0, End: shown.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (shown[to]) goTo(shown[to].link);
}

// What the address says: an image of its own, or all of them. `moved`: by the user, whose focus follows.
function route(moved) {
  const item = all.length === 1 ? all[0] : all[Number((location.hash.match(/^#image-(\d+)$/) || [])[1]) - 1];
  const before = state.item;
  state.item = item;
  gallery.hidden = Boolean(item) || all.length < 2;
  single.hidden = !item;
  document.body.classList.toggle("one", Boolean(item) && all.length > 1);
  single.replaceChildren(...(item ? singleView(item.report, all.length > 1 ? steps(item) : null) : []));
  if (!moved) return;
  window.scrollTo(0, item ? 0 : state.scrolled);
  if (item) single.querySelector("h2").focus({ preventScroll: true });
  else if (before && shown.includes(before)) goTo(before.link);
}

function steps(item) {
  const here = shown.indexOf(item);
  const to = (other, ...text) => (other ? make("a", { class: "step", href: `#image-${other.place + 1}` }, ...text) : make("span", { class: "step", "aria-hidden": "true" }, ...text));
  const word = (text) => make("span", { class: "word" }, text);
  return make("nav", { "aria-label": "Images" }, make("a", { class: "step", href: "#" }, "All images"),
    to(shown[here - 1], "\u2190", word("Previous")), make("span", { class: "soft" }, here < 0 ? "" : `${here + 1} of ${shown.length}`), to(shown[here + 1], word("Next"), "\u2192"));
}

for (const name of ["search", "finding", "sort", "score", "least", "most"]) control(name).addEventListener("input", arrange);
control("reset").addEventListener("click", () => {
  for (const name of ["search", "finding", "least", "most"]) control(name).value = "";
  arrange();
  control("search").focus();
});
cards.addEventListener("keydown", step);
cards.addEventListener("click", () => (state.scrolled = window.scrollY));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.item && all.length > 1) location.hash = "#";
});
window.addEventListener("hashchange", () => route(true));

for (const record of document.querySelectorAll("template.record")) {
  add(JSON.parse(record.content.textContent));
  record.remove();
}
fillChoices();
arrange();
route(false);
