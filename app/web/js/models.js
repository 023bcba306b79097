/** The models view: every version and its state, its card, and what somebody with the admin key may do with it. */

import * as admin from "./admin.js";
import { comparisonOf } from "./comparison.js";
import { connection } from "./connection.js";
import { announce, element, show, stamp } from "./dom.js";
import { offers } from "./offers.js";
import { ask } from "./service.js";
import { cardOf } from "./version_card.js";
import { count, percent } from "./words.js";

const EVERY_MS = 3000;
const MARKS = {
  available: ["On disk", ""],
  loading: ["Loading", "warn"],
  ready: ["In memory", ""],
  draining: ["Closing", "warn"],
  failed: ["Failed", "bad"],
};

const list = document.getElementById("models-list");
const problem = document.getElementById("models-problem");
const openCards = new Map(); // "name/version" -> its element, so that it stays open when the list is drawn anew
let timer = 0;
let isShown = false;
let judged = []; // what people said of each version
let drawn = "";

admin.start(() => read(true));
connection.addEventListener("ready", () => {
  if (isShown) begin(); // what could not be asked while the service was away
});

/** Begins, and gives what ends it. */
export function enter() {
  isShown = true;
  begin();
  return () => {
    isShown = false;
    clearTimeout(timer);
  };
}

function begin() {
  admin.offer();
  read(true);
}

async function read(isForced = false) {
  clearTimeout(timer);
  if (document.hidden) {
    again();
    return;
  }
  try {
    const { models } = await ask("models");
    if (isForced) judged = await feedback();
    const state = JSON.stringify([models, judged]);
    if (isForced || state !== drawn) {
      redraw(models);
      drawn = state;
    }
    await Promise.all(models.map(({ name }) => compare(name)));
    if (problem.dataset.from === "read") complain("");
  } catch (error) {
    complain(error.message, "read");
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (isShown) timer = setTimeout(read, EVERY_MS);
}

/** Draws everything anew, and leaves the focus where it was. */
function redraw(models) {
  const focused = document.activeElement.dataset.key;
  list.replaceChildren(...models.map(model));
  if (focused) focusOn(focused);
}

/** Focuses the button with this key, or the first one of its version if that has gone. */
function focusOn(key) {
  const keyed = [...list.querySelectorAll("[data-key]")];
  const version = key.slice(0, key.lastIndexOf("/") + 1);
  const found = keyed.find(({ dataset }) => dataset.key === key) ?? keyed.find(({ dataset }) => dataset.key.startsWith(version));
  found?.focus();
}

async function compare(name) {
  const compared = await ask(`models/${encodeURIComponent(name)}/compare`);
  const nodes = comparisonOf(compared);
  const place = document.getElementById(`compare-${name}`);
  place.replaceChildren(...nodes);
  show(place, nodes.length > 0);
}

/** Asked for when the view is entered, not at intervals: it is worked out from thousands of answers. */
async function feedback() {
  try {
    return (await offers()).feedback ? (await ask("feedback/summary")).versions : [];
  } catch {
    return []; // versions are shown without it
  }
}

function complain(words, from = "") {
  problem.textContent = words;
  problem.dataset.from = from;
  show(problem, Boolean(words));
}

function model(described) {
  const { name, live, pinned, labels, versions, problem: trouble, persisted } = described;
  const words = [live ? `Version ${live} answers` : "No version answers"];
  words.push(pinned ? "until somebody chooses another." : "; the newest takes over by itself.");
  for (const [label, version] of Object.entries(labels)) words.push(` “${label}” is version ${version}.`);
  if (persisted === false) words.push(" What was decided ends with the process.");
  const newestFirst = [...versions].sort((one, other) => Number(other.version) - Number(one.version));
  return element(
    "section",
    { className: "model" },
    element("h2", {}, name),
    element("p", { className: "model-words" }, words[0], words[1].startsWith(";") ? "" : " ", ...words.slice(1)),
    trouble ? element("p", { className: "version-reason" }, trouble) : null,
    element("ul", { className: "versions" }, ...newestFirst.map((one) => version(described, one))),
    element("section", { className: "comparison", id: `compare-${name}`, hidden: true, "aria-label": "Comparison" }),
  );
}

function version({ name, live }, { version: number, state, reason, live: isLive, created, accuracy, engine, precision }) {
  const { root, parts } = stamp("version-template");
  parts.title.textContent = `Version ${number}`;
  const marks = isLive ? [["Answers", "good"], ...(state === "ready" ? [] : [MARKS[state]])] : [MARKS[state]];
  parts.marks.replaceChildren(...marks.map(([words, kind]) => element("li", { className: `badge ${kind}` }, words)));
  const facts = [
    ["accuracy", typeof accuracy === "number" ? percent(accuracy) : null],
    ["runs on", engine ? `${engine}, ${precision}` : null],
    ["published", created ? new Date(created).toLocaleDateString("en", { dateStyle: "medium" }) : null],
    ["feedback", verdictOf(judged.find((one) => one.model === name && one.version === number))],
  ].filter(([, value]) => value);
  parts.facts.replaceChildren(...facts.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))));
  parts.reason.textContent = reason;
  show(parts.reason, Boolean(reason));
  if (admin.isThere()) parts.ways.prepend(...ways(name, number, { state, isLive, live }));
  wireCard(parts, name, number);
  return root;
}

function verdictOf(figures) {
  if (!figures) return null;
  const { value, low, high } = figures.accuracy;
  return `${percent(value)} right of ${count(figures.pictures, "picture")} (95 % sure of ${percent(low)} to ${percent(high)})`;
}

/** What may be done with a version as things stand. */
function ways(name, number, { state, isLive, live }) {
  const path = `models/${encodeURIComponent(name)}/versions/${number}`;
  const way = (words, does) => wayButton(words, `${name}/${number}/${words}`, does);
  const found = [];
  if (!isLive && state !== "draining" && state !== "loading") {
    const isBack = Number(number) < Number(live);
    found.push(
      way(isBack ? "Roll back to it" : "Promote", {
        title: isBack ? `Roll back to version ${number}?` : `Promote version ${number}?`,
        words: `It will answer every request to ${name} that names no version${live ? `, instead of version ${live}` : ""}. Requests under way are finished first.`,
        act: () => admin.command("PUT", `models/${encodeURIComponent(name)}/live`, { version: Number(number) }),
        done: `Version ${number} answers now.`,
      }),
    );
  }
  if (state === "available" || state === "failed") {
    found.push(way("Load", { act: () => admin.command("POST", `${path}/load`), done: `Version ${number} is in memory.` }));
  }
  if (state === "ready" && !isLive) {
    found.push(way("Unload", { act: () => admin.command("POST", `${path}/unload`), done: `Version ${number} was unloaded.` }));
  }
  return found;
}

function wayButton(words, key, { title, words: question, act, done }) {
  const button = element("button", { type: "button", className: "button compact" }, words);
  button.dataset.key = key;
  button.addEventListener("click", async () => {
    if (button.ariaDisabled) return;
    if (title && !(await confirmed(title, question, words, key))) return;
    button.ariaDisabled = "true"; // one that is disabled would lose the focus
    button.prepend(element("span", { className: "spinner" }));
    complain("");
    try {
      await act();
      announce(done);
    } catch (error) {
      complain(error.message);
    }
    await read(true);
  });
  return button;
}

/** Asks, and gives the focus back to the button with this key, which may be drawn anew meanwhile. */
async function confirmed(title, words, action, key) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-words").textContent = words;
  document.getElementById("confirm-yes").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  focusOn(key);
  return dialog.returnValue === "yes";
}

function wireCard(parts, name, number) {
  const id = `${name}/${number}`;
  const set = (isOpen) => {
    parts.open.setAttribute("aria-expanded", String(isOpen));
    parts.open.textContent = isOpen ? "Close the card" : "Card";
    show(parts.card, isOpen);
  };
  parts.open.dataset.key = `${id}/card`;
  parts.open.setAttribute("aria-label", `Card of version ${number}`);
  if (openCards.has(id)) {
    parts.card.replaceChildren(...openCards.get(id));
    set(true);
  }
  parts.open.addEventListener("click", async () => {
    if (openCards.delete(id)) {
      set(false);
      return;
    }
    try {
      const nodes = cardOf(await ask(`models/${encodeURIComponent(name)}/versions/${number}`));
      openCards.set(id, nodes);
      parts.card.replaceChildren(...nodes);
      set(true);
    } catch (error) {
      complain(error.message);
    }
  });
}
