/** The probability of every class, the most probable first. */

import { element } from "./dom.js";
import { percent } from "./words.js";

export class Bars {
  constructor(list) {
    this.list = list;
  }

  show({ probabilities, label, confidence_set: set }) {
    const isInSet = new Set(set ? set.labels : [label]);
    const rows = Object.entries(probabilities).sort(([, one], [, other]) => other - one);
    this.list.classList.add("is-plain");
    this.list.replaceChildren(...rows.map(([name, share]) => row(name, share, isInSet.has(name))));
  }
}

function row(name, share, isInSet) {
  const fill = element("span", { className: "bar-fill" });
  fill.style.setProperty("--share", share);
  return element(
    "li",
    { className: isInSet ? "bar is-in-set" : "bar" },
    element("span", { className: "bar-name", title: name }, name),
    element("span", { className: "bar-track", "aria-hidden": "true" }, fill),
    element("span", { className: "bar-value" }, percent(share)),
  );
}
