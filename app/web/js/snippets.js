/** The request that was just made, as code that makes it again. */

import { announce, element, show, stamp } from "./dom.js";

const LANGUAGES = { curl, Python: python, JavaScript: javascript };
const COPIED_MS = 2000;
const MOST_TOGETHER = 100; // pictures in one request, unless CLASSIFIER_MAX_UPLOAD_FILES says otherwise
const PATIENCE_S = 60; // httpx gives up after 5 by itself, which a full service or many pictures may take

// Both stay chosen from picture to picture.
let language = "curl";
let isTogether = false;

export function showCode(place, picture, pictures) {
  const { root, parts } = stamp("code-template");
  const isSeveral = pictures.length > 1 && pictures.length <= MOST_TOGETHER;
  const write = () => {
    parts.text.textContent = LANGUAGES[language](isSeveral && isTogether ? batch(pictures, picture) : single(picture));
    for (const tab of parts.tabs.children) {
      const isChosen = tab.textContent === language;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    }
  };
  const choose = (name) => {
    language = name;
    write();
  };
  parts.tabs.append(...Object.keys(LANGUAGES).map((name) => tab(name, choose)));
  parts.tabs.addEventListener("keydown", moveByArrows);
  show(parts.together, isSeveral);
  parts["together-words"].textContent = `All ${pictures.length} pictures in one request`;
  parts["together-box"].checked = isTogether;
  parts["together-box"].addEventListener("change", ({ target }) => {
    isTogether = target.checked;
    write();
  });
  parts.copy.addEventListener("click", () => copy(parts));
  write();
  place.replaceChildren(root);
}

function single({ name, coverage }) {
  return { url: address("predict", coverage), names: [name], result: "label" };
}

function batch(pictures, { coverage }) {
  return { url: address("predict/batch", coverage), names: pictures.map(({ name }) => name), result: "results" };
}

function address(path, coverage) {
  const url = new URL(path, document.baseURI);
  if (coverage) url.searchParams.set("coverage", coverage);
  return url.href;
}

function tab(name, choose) {
  const made = element("button", { type: "button", role: "tab" }, name);
  made.addEventListener("click", () => choose(name));
  return made;
}

function moveByArrows(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const tabs = [...event.currentTarget.children];
  const next = step && tabs[tabs.indexOf(event.target) + step];
  next?.click();
  next?.focus();
}

async function copy({ text, copy: button }) {
  const words = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(text.textContent);
    words.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text); // no clipboard without HTTPS
    words.textContent = "Selected: press Ctrl+C";
  }
  announce(words.textContent);
  setTimeout(() => {
    words.textContent = "Copy";
  }, COPIED_MS);
}

function curl({ url, names }) {
  return `curl ${names.map((name) => `-F ${shell(`file=@${formValue(name)}`)}`).join(" ")} ${shell(url)}`;
}

function python({ url, names, result }) {
  const files =
    names.length === 1
      ? `{"file": open(${JSON.stringify(names[0])}, "rb")}`
      : `[("file", open(name, "rb")) for name in ${JSON.stringify(names).replaceAll('","', '", "')}]`;
  return `import httpx

answer = httpx.post(${JSON.stringify(url)}, files=${files}, timeout=${PATIENCE_S})
answer.raise_for_status()
print(answer.json()["${result}"])`;
}

function javascript({ url, names, result }) {
  return `import { openAsBlob } from "node:fs";

const form = new FormData();
for (const name of ${JSON.stringify(names).replaceAll('","', '", "')}) {
  form.append("file", await openAsBlob(name), name);
}
const answer = await fetch(${JSON.stringify(url)}, { method: "POST", body: form });
if (!answer.ok) throw new Error(await answer.text());
console.log((await answer.json()).${result});`;
}

/** A word of the shell, in quotes if it has to be. */
function shell(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** A file name as curl reads it in a form, where these have a meaning. */
function formValue(name) {
  return /[;,"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, String.raw`\$&`)}"` : name;
}
