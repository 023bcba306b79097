/** The pictures of this visit: a strip of them, one of which is shown whole. */

import { AnswerView } from "./answer.js";
import { announce, element, show } from "./dom.js";
import { resize } from "./intake.js";
import { Picture } from "./picture.js";
import { drop, enqueue } from "./queue.js";
import { count, percent } from "./words.js";

const THUMBNAIL = { width: 192, height: 128 };

const strip = document.getElementById("filmstrip");
const place = document.getElementById("answer");
const pictures = [];
let shown = null;

export function start() {
  document.getElementById("clear").addEventListener("click", clear);
  strip.addEventListener("keydown", moveByArrows);
}

/** Takes files in, shows the first of them and sends them all. */
export function take(files) {
  const added = files.map((file) => new Picture(file));
  for (const picture of added) {
    picture.tile = tile(picture);
    strip.append(picture.tile);
    picture.addEventListener("change", () => update(picture));
  }
  pictures.push(...added);
  arrange();
  select(added[0]);
  enqueue(...added);
}

/** Every picture of this visit that has an answer or a failure, in order. */
export function all() {
  return [...pictures];
}

function select(picture) {
  shown?.view.leave();
  shown = { picture, view: new AnswerView(picture, { again: () => enqueue(picture), all }) };
  place.replaceChildren(shown.view.root);
  for (const { tile, id } of pictures) tile.firstElementChild.setAttribute("aria-current", String(id === picture.id));
  picture.tile.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function tile(picture) {
  const canvas = element("canvas", THUMBNAIL);
  const label = element("span", { className: "tile-label" }, picture.name);
  const value = element("span", { className: "tile-value" }, "");
  const button = element("button", { type: "button" }, canvas, label, value);
  button.addEventListener("click", () => select(picture));
  drawThumbnail(picture.file, canvas);
  return element("li", {}, button);
}

/** Small copies: a hundred photographs at full size would take gigabytes. */
async function drawThumbnail(file, canvas) {
  try {
    const whole = await createImageBitmap(file, { resizeWidth: THUMBNAIL.width, resizeQuality: "medium" });
    const scale = Math.max(canvas.width / whole.width, canvas.height / whole.height);
    const [width, height] = [whole.width * scale, whole.height * scale];
    canvas.getContext("2d").drawImage(whole, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    whole.close();
  } catch {
    // The browser knows fewer formats than the service: the tile stays plain.
  }
}

function update(picture) {
  if (!pictures.includes(picture)) return; // it was cleared
  const button = picture.tile.firstElementChild;
  const [, label, value] = button.children;
  button.dataset.state = picture.state;
  button.toggleAttribute("data-stranger", picture.answer?.in_distribution === false);
  if (picture.state === "answered") {
    label.textContent = picture.answer.label;
    value.textContent = percent(picture.answer.probability) + (picture.answer.in_distribution === false ? " ?" : "");
  } else {
    label.textContent = picture.state === "failed" ? picture.failure.title : picture.name;
    value.textContent = { waiting: "waiting", sending: "…", failed: picture.name }[picture.state];
  }
  button.title = picture.name;
  summarize(picture);
}

function summarize(changed) {
  const done = pictures.filter(({ state }) => state === "answered").length;
  const failed = pictures.filter(({ state }) => state === "failed").length;
  const parts = [`${count(done, "picture")} of ${pictures.length} answered`];
  if (failed) parts.push(`${failed} with an error`);
  document.getElementById("gallery-summary").textContent = parts.join(", ");
  const isLast = pictures.length > 1 && done + failed === pictures.length;
  if (isLast) announce(`${parts.join(", ")}.`);
  else if (pictures.length === 1) announceOne(changed);
}

function announceOne({ state, answer, failure }) {
  if (state === "answered") announce(spoken(answer));
  if (state === "failed") announce(`${failure.title}. ${failure.detail}`);
}

function spoken({ label, probability, in_distribution: isKnown }) {
  return `${label}, ${percent(probability)}.${isKnown === false ? " But the picture may be none of these classes." : ""}`;
}

function arrange() {
  const isEmpty = pictures.length === 0;
  resize(isEmpty ? "large" : "small");
  show(document.getElementById("examples"), isEmpty);
  document.getElementById("classify").dataset.empty = isEmpty;
  document.getElementById("classify-title").classList.toggle("unseen", !isEmpty);
  show(document.getElementById("gallery"), pictures.length > 1);
}

function clear() {
  drop();
  shown?.view.leave();
  shown = null;
  for (const picture of pictures.splice(0)) picture.forget();
  strip.replaceChildren();
  place.replaceChildren();
  arrange();
  document.getElementById("choose").focus();
}

function moveByArrows(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = pictures[pictures.findIndex(({ tile }) => tile.contains(event.target)) + step];
  if (!next) return;
  event.preventDefault();
  next.tile.firstElementChild.focus();
  select(next);
}
