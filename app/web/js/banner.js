/** Shows the state of the connection: a dot in the header, and a banner while something is wrong. */

import { connection } from "./connection.js";
import { show } from "./dom.js";

const GOOD_NEWS_MS = 3000;
const SHORT = { connecting: "Connecting", ready: "Ready", waiting: "Not ready", unreachable: "Unreachable" };

const banner = document.getElementById("banner");
const words = document.getElementById("banner-words");
let timer = 0;

export function start() {
  connection.addEventListener("change", ({ detail }) => update(detail.before));
}

function update(before) {
  const { state, detail, ready } = connection;
  document.getElementById("service").dataset.state = state;
  document.getElementById("service-words").textContent = SHORT[state];
  document.getElementById("service").title = state === "ready" ? `The model runs on ${ready.engine}, in ${ready.precision}.` : detail;
  clearTimeout(timer);
  banner.dataset.state = state;
  if (state === "ready") {
    const isBack = before !== "connecting" && !banner.hidden;
    words.textContent = isBack ? "The service is ready again." : "";
    show(banner, isBack);
    timer = setTimeout(() => show(banner, false), GOOD_NEWS_MS);
    return;
  }
  words.textContent =
    state === "unreachable"
      ? "The service cannot be reached. Is it running, and is the network there? This page keeps trying; pictures wait meanwhile."
      : `${detail} This page keeps asking; pictures wait meanwhile.`;
  show(banner);
}
