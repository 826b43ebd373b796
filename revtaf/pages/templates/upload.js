"use strict";
// Images that are dropped or chosen, one after the other: each goes to the server of this page, its report to the gallery.

const form = document.getElementById("upload");
const progress = document.getElementById("progress");
const failed = document.getElementById("failed");
const chooser = document.getElementById("file");
let waiting = Promise.resolve(); // what was dropped before is done first

async function reportOf(file) {
  if (file.size > Number(form.dataset.limit)) throw new Error(`${file.name}: the file is larger than this page takes`);
  const asked = new URLSearchParams({ name: file.name, status: document.getElementById("given").value });
  const answer = await fetch(`report?${asked}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file })
    .catch(() => { throw new Error("The server does not answer: is revtaf serve still running?"); });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error || `${file.name}: the server answered ${answer.status}`);
}

async function send(files) {
  failed.replaceChildren();
  let item = null;
  form.classList.add("busy");
  if (files.length > 1) location.hash = "#"; // to the gallery, where they come in
  for (const [i, file] of files.entries()) {
    progress.textContent = `Writing the report of ${file.name}${files.length > 1 ? ` (${i + 1} of ${files.length})` : ""} \u2026`;
    try {
      item = add(await reportOf(file));
      fillChoices();
      arrange();
      if (files.length > 1) route(false);
    } catch (error) {
      failed.append(make("li", null, error.message));
    }
  }
  form.classList.remove("busy");
  progress.textContent = "";
  chooser.value = "";
  if (!item || (files.length > 1 && all.length > 1)) return;
  const place = `#image-${item.place + 1}`;
  if (location.hash === place) route(true);
  else location.hash = place;
}

const enqueue = (files) => files.length && (waiting = waiting.then(() => send([...files])));

chooser.addEventListener("change", () => enqueue(chooser.files));
form.addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    form.classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") enqueue(event.dataTransfer.files);
  });
}
