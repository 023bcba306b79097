/** The probability of every class, the most probable first; each may have a button that shows what speaks for it. */

import { element, icon } from "./dom.js";
import { percent } from "./words.js";

// A model may know a thousand classes: the first of them are shown, the rest on demand.
const MOST = 15;
const FIRST = 10;

export class Bars {
  #buttons = new Map(); // by label
  #isWhole = false;

  /** `explain` is called with a label; without it there are no buttons. */
  constructor(list, explain = null) {
    this.list = list;
    this.explain = explain;
  }

  show(answer) {
    const claimed = new Set(claimedBy(answer));
    const rows = Object.entries(answer.probabilities).sort(([, one], [, other]) => other - one);
    const shown = this.#isWhole || rows.length <= MOST ? rows : rows.slice(0, FIRST);
    this.#buttons.clear();
    this.list.classList.toggle("is-plain", !this.explain);
    this.list.replaceChildren(...shown.map(([name, share]) => this.#row(name, share, claimed.has(name))));
    if (shown.length < rows.length) this.list.append(this.#rest(rows.length, () => this.show(answer)));
  }

  #rest(number, again) {
    const button = element("button", { type: "button", className: "button compact quiet" }, `Show all ${number.toLocaleString("en")} classes`);
    button.addEventListener("click", () => {
      this.#isWhole = true;
      again();
      this.list.children[FIRST].querySelector("button")?.focus();
    });
    return element("li", {}, button);
  }

  /** Marks the label whose explanation is shown or on its way; null for none. */
  mark(label, isBusy = false) {
    for (const [name, button] of this.#buttons) {
      button.setAttribute("aria-pressed", String(name === label));
      button.setAttribute("aria-busy", String(name === label && isBusy));
    }
  }

  /** Gives the focus to a label's button. */
  focus(label) {
    this.#buttons.get(label)?.focus({ preventScroll: true });
  }

  #row(name, share, isInSet) {
    const fill = element("span", { className: "bar-fill" });
    fill.style.setProperty("--share", share);
    const row = element(
      "li",
      { className: isInSet ? "bar is-in-set" : "bar" },
      element("span", { className: "bar-name", title: name }, name),
      element("span", { className: "bar-track", "aria-hidden": "true" }, fill),
      element("span", { className: "bar-value" }, percent(share)),
    );
    if (this.explain) row.append(this.#button(name));
    return row;
  }

  #button(name) {
    const words = `Show what speaks for ${name}`;
    const button = element("button", { type: "button", className: "bar-why", title: words, "aria-label": words, "aria-pressed": "false" }, icon("eye"));
    button.addEventListener("click", () => this.explain(name));
    this.#buttons.set(name, button);
    return button;
  }
}

/** The labels whose bars stand out: none of a picture for which nothing is promised, and none where there is no answer. */
function claimedBy({ label, confidence_set: set, in_distribution: isKnown }) {
  if (isKnown === false || label === undefined) return [];
  return set ? set.labels : [label];
}
