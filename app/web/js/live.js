/** The live view: reads /metrics while it is shown, and keeps what it read for a few minutes. */

import { Bars } from "./bars.js";
import { Columns, Lines } from "./charts.js";
import { element, show } from "./dom.js";
import { growth, histogram, parse, quantile, sum } from "./prometheus.js";
import { send } from "./service.js";
import { count, milliseconds } from "./words.js";

const EVERY_MS = 2000;
const KEPT_S = 300;
const LATENCY = "classifier_stage_seconds";
const BATCHES = "classifier_batch_pictures";
const CLASSIFIES = /^\/predict|:(predict|classify)$|\/(infer|ModelInfer|Predict|Classify)$/; // over HTTP and gRPC

const readings = []; // {time, samples}, oldest first
const pause = document.getElementById("pause");
const problem = document.getElementById("live-problem");
let charts = null;
let timer = 0;
let isShown = false;
let isPaused = false;

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Go on" : "Pause";
  if (!isPaused) read();
});

/** Begins, and gives what ends it. */
export function enter() {
  charts ??= drawn();
  isShown = true;
  read();
  return () => {
    isShown = false;
    clearTimeout(timer);
  };
}

function drawn() {
  const figure = (name) => document.querySelector(`[data-chart="${name}"]`);
  return {
    requests: new Lines(
      figure("requests"),
      [
        { label: "answered", colour: "accent" },
        { label: "refused", colour: "bad" },
      ],
      { seconds: KEPT_S, format: (rate) => rate.toLocaleString("en", { maximumFractionDigits: rate < 10 ? 1 : 0 }) },
    ),
    latency: new Lines(
      figure("latency"),
      [
        { label: "half within", colour: "accent" },
        { label: "95 % within", colour: "warn" },
      ],
      { seconds: KEPT_S, format: (ms) => `${ms.toLocaleString("en", { maximumFractionDigits: ms < 10 ? 1 : 0 })} ms` },
    ),
    batches: new Columns(figure("batches"), (batches) => batches.toLocaleString("en")),
    classes: new Bars(document.getElementById("classes")),
  };
}

async function read() {
  clearTimeout(timer);
  if (isPaused) return;
  if (document.hidden) {
    again();
    return;
  }
  try {
    const response = await send("metrics");
    if (!response.ok) throw new Error(`The metrics answered with status ${response.status}.`);
    take(Date.now() / 1000, parse(await response.text()));
    show(problem, false);
  } catch (error) {
    problem.textContent = `${error.message} The charts go on when it answers again.`;
    show(problem);
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (isShown) timer = setTimeout(read, EVERY_MS);
}

function take(time, samples) {
  readings.push({ time, samples });
  while (readings[0].time < time - KEPT_S) readings.shift();
  const before = readings.at(-2);
  const now = before ? between(before, readings.at(-1)) : null;
  if (now) {
    charts.requests.add(time, [now.answered, now.refused]);
    charts.latency.add(time, [now.median, now.slow]);
  }
  showFigures(samples, now);
  const stretch = stretchOf(samples);
  showBatches(stretch);
  showClasses(stretch);
}

/** Rates per second, and times in milliseconds, between two readings. */
function between(before, after) {
  const seconds = after.time - before.time;
  const rate = (matches) => {
    const total = ({ samples }) => sum(samples, "classifier_requests_total", (labels) => CLASSIFIES.test(labels.route) && matches(labels));
    return growth(total(before), total(after)) / seconds;
  };
  const times = histogram(before.samples, after.samples, LATENCY, ({ stage }) => stage === "total");
  const inMs = (share) => {
    const found = quantile(times, share);
    return found === null ? null : 1000 * found;
  };
  return {
    answered: rate(({ status }) => status.startsWith("2")),
    refused: rate(({ status }) => !status.startsWith("2")),
    median: inMs(0.5),
    slow: inMs(0.95),
  };
}

/** What was counted lately, or since the service started if that is nothing. */
function stretchOf(samples) {
  const oldest = readings[0].samples;
  const pictures = (from) => growth(sum(from, "classifier_predictions_total"), sum(samples, "classifier_predictions_total"));
  if (readings.length > 1 && pictures(oldest) > 0) {
    const minutes = Math.round((readings.at(-1).time - readings[0].time) / 60);
    return { from: oldest, samples, words: minutes <= 1 ? "in the last minute" : `in the last ${count(minutes, "minute")}` };
  }
  return { from: new Map(), samples, words: "since the service started" };
}

function showFigures(samples, now) {
  const waiting = sum(samples, "classifier_pictures_waiting");
  const pairs = [
    ["requests per second", now ? (now.answered + now.refused).toFixed(1) : "–"],
    ["half answered within", now?.median ? milliseconds(now.median) : "–"],
    ["95 % answered within", now?.slow ? milliseconds(now.slow) : "–"],
    ["requests in flight", String(sum(samples, "classifier_requests_in_flight"))],
    ["pictures waiting", String(waiting)],
    ["memory", `${Math.round(sum(samples, "process_resident_memory_bytes") / 1024 ** 2).toLocaleString("en")} MiB`],
  ];
  const tiles = pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  document.getElementById("figures").replaceChildren(...tiles);
}

function showBatches({ from, samples, words }) {
  const buckets = histogram(from, samples, BATCHES);
  const used = buckets.slice(0, buckets.findLastIndex(({ count: batches }) => batches > 0) + 1);
  const shown = used.length > 2 ? used : buckets.slice(0, 4);
  charts.batches.show(shown.map(sizes), shown.map(({ count: batches }) => batches));
  const [pictures, batches] = ["sum", "count"].map((part) => growth(sum(from, `${BATCHES}_${part}`), sum(samples, `${BATCHES}_${part}`)));
  document.querySelector('[data-chart="batches"] .legend').textContent = batches
    ? `${(pictures / batches).toFixed(1)} on average ${words}`
    : "No batch yet";
}

/** "1", "2", "3–4": sizes are whole numbers. */
function sizes({ above, upTo }) {
  if (upTo === Infinity) return `> ${above}`;
  return above + 1 >= upTo ? String(upTo) : `${above + 1}–${upTo}`;
}

/** Pictures of all models and versions together. */
function byClass(samples) {
  const found = new Map();
  for (const { labels, value } of samples.get("classifier_predictions_total") ?? []) {
    found.set(labels.label, (found.get(labels.label) ?? 0) + value);
  }
  return found;
}

function showClasses({ from, samples, words }) {
  const before = byClass(from);
  const counted = [...byClass(samples)].map(([label, pictures]) => [label, growth(before.get(label) ?? 0, pictures)]);
  const total = counted.reduce((sofar, [, pictures]) => sofar + pictures, 0);
  show(document.getElementById("classes-empty"), total === 0);
  document.getElementById("classes-words").textContent = total ? `${count(total, "picture")} ${words}` : "";
  if (total) charts.classes.show({ probabilities: Object.fromEntries(counted.map(([label, pictures]) => [label, pictures / total])) });
}
