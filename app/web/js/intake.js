/** Every way in for pictures: dropped, pasted, chosen, photographed, or one of the examples. */

import { photograph } from "./camera.js";
import { show } from "./dom.js";
import { filesOf } from "./dropped.js";
import { send } from "./service.js";

const MOST_NAMED = 3;

const problem = document.getElementById("intake-problem");
const chooser = document.getElementById("chooser");
const capture = document.getElementById("capture");

/** Calls `take` with the files that come, from now on. */
export function start(take) {
  const accept = (files) => {
    complain("");
    if (files.length) take(files);
  };
  for (const input of [chooser, capture]) {
    input.addEventListener("change", () => {
      accept([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  document.getElementById("intake").addEventListener("click", ({ target }) => {
    if (!target.closest("button, input")) chooser.click(); // the click that opens the camera comes by here, too
  });
  document.getElementById("choose").addEventListener("click", () => chooser.click());
  document.getElementById("photograph").addEventListener("click", () => photograph(capture, accept));
  acceptDrops(accept);
  acceptPastes(accept);
  for (const button of document.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => takeExample(button.dataset.example, accept));
  }
}

export function resize(size) {
  document.getElementById("intake").dataset.size = size;
}

/** Pictures can be dropped and pasted in every view, but only one of them shows what is wrong. */
function complain(words) {
  problem.textContent = words;
  show(problem, Boolean(words));
  if (words) location.hash = "#classify";
}

/** The whole window is the target: nobody has to aim. */
function acceptDrops(accept) {
  let depth = 0; // every element that the pointer crosses says enter and leave
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("is-dragging", depth > 0);
  };
  addEventListener("dragenter", () => mark(1));
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-depth);
    const { files, unread } = await filesOf(event.dataTransfer);
    accept(files);
    if (unread.length) complain(lost(unread));
    else if (!files.length) complain("That was no file. Save the picture first and drop the file, or copy the picture and paste it here.");
  });
}

function lost(names) {
  const more = names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : "";
  return `The browser could not read ${names.slice(0, MOST_NAMED).join(", ")}${more}. See what has become of them, or who may open them.`;
}

function acceptPastes(accept) {
  document.addEventListener("paste", (event) => {
    if (event.target.closest("input, textarea, select")) return;
    const files = [...event.clipboardData.files];
    accept(files);
    if (!files.length) complain("There is no picture on the clipboard. Copy the picture itself, not its address or the text around it.");
  });
}

async function takeExample(name, accept) {
  try {
    const response = await send(`web/examples/${name}`);
    const blob = await response.blob();
    accept([new File([blob], name, { type: blob.type })]);
    document.getElementById("choose").focus({ preventScroll: true }); // what had it is hidden now
  } catch {
    complain("The example could not be fetched: the service cannot be reached. Try again once it is ready.");
  }
}
