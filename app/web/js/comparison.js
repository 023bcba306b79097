/** How a shadow version's answers agree with those of the live one, before anybody promotes it. */

import { element } from "./dom.js";
import { count, percent } from "./words.js";

const MOST_ROWS = 8;

/** What to show of a comparison, nothing where there is none. */
export function comparisonOf({ live, shadow, share, reason, pictures, agreement, disagreements, dropped, failed }) {
  if (!shadow) return [];
  return [
    element("h3", {}, `Version ${shadow} looks at ${Math.round(100 * share)} % of what version ${live} answers`),
    element("p", {}, reason || said(shadow, pictures, agreement)),
    ...(disagreements.length ? [table(live, shadow, disagreements)] : []),
    ...(dropped || failed ? [element("p", { className: "small" }, `${count(dropped, "picture")} had to be left out for lack of time, and it failed on ${failed}.`)] : []),
  ];
}

function said(shadow, pictures, agreement) {
  if (!agreement) return "It has seen no picture yet.";
  const { value, low, high } = agreement;
  return `It says the same on ${percent(value)} of ${count(pictures, "picture")} (95 % sure of ${percent(low)} to ${percent(high)}).`;
}

function table(live, shadow, disagreements) {
  const rows = disagreements.slice(0, MOST_ROWS).map((one) =>
    element("tr", {}, element("td", {}, one.live), element("td", {}, one.shadow), element("td", {}, one.count.toLocaleString("en"))),
  );
  const head = [`Version ${live} says`, `version ${shadow} says`, "pictures"].map((words) => element("th", { scope: "col" }, words));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}
