/** Where the time of a request went, by stage. */

import { element } from "./dom.js";
import { milliseconds } from "./words.js";

const STAGES = {
  read: "until the picture had arrived",
  decode: "to make pixels of it",
  queue: "until the network was free",
  infer: "in the network",
  encode: "to write the answer",
};

export function showTiming(strip, stages, { timing, roundTripMs }) {
  const onTheWay = Math.max(0, roundTripMs - (timing.total ?? 0));
  const spent = [
    ...Object.entries(STAGES).map(([stage, what]) => [stage, what, timing[stage] ?? 0]),
    ["network", "there and back, and in the browser", onTheWay],
  ];
  strip.replaceChildren(...spent.map(([, , ms]) => slice(ms)));
  stages.replaceChildren(
    ...spent.map(([stage, what, ms]) => line(stage, what, ms)),
    line("total", "as you waited for it", roundTripMs, "total"),
  );
}

function slice(ms) {
  const made = element("span");
  made.style.setProperty("--share", ms);
  return made;
}

function line(stage, what, ms, className = "") {
  return element(
    "div",
    { className },
    element("dt", {}, stage),
    element("dd", { className: "what" }, what),
    element("dd", { className: "ms" }, milliseconds(ms)),
  );
}
