/** The card of a version: what was measured, where it errs, how well its probabilities hold, where it comes from. */

import { definitions, element } from "./dom.js";
import { bytes, decimal, percent } from "./words.js";

const MOST_CLASSES = 30; // in a matrix that can be read; the page of the card has larger ones

/** The parts of a card as elements; what was not measured is left out. */
export function cardOf(card) {
  const { name, version, measurements, evaluation, classes, calibration } = card;
  return [
    part(measurements.length ? `Measured, ${measurements[0].data} where nothing else is said` : "Measured", measured(measurements), "wide measured"),
    part("Calibration", element("dl", {}, ...definitions(calibrated(calibration)))),
    ...(classes ? [part("By class", byClass(classes))] : []),
    ...(evaluation?.reliability?.length ? [part("Are its probabilities right?", reliability(evaluation.reliability))] : []),
    ...(evaluation?.confusion.length <= MOST_CLASSES ? [part(`What it takes for what: each row is what ${evaluation.data} shows, each column what was said`, confusion(card), "wide")] : []),
    part("Where it comes from", element("dl", {}, ...definitions(lineage(card))), "wide"),
    element("p", { className: "wide small" }, element("a", { href: `models/${encodeURIComponent(name)}/versions/${version}` }, "The whole card as a page of its own")),
  ];
}

function part(title, content, className = "") {
  return element("section", { className }, element("h4", {}, title), content);
}

function table(head, rows) {
  return element(
    "div",
    { className: "scroll", tabIndex: 0, role: "region", "aria-label": head.join(", ") },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head.map((words) => element("th", { scope: "col" }, words)))),
      element("tbody", {}, ...rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((value) => element("td", {}, value))))),
    ),
  );
}

const METRICS = {
  nll: "log loss",
  ece: "calibration error",
  nll_uncalibrated: "log loss before the temperature",
  ece_uncalibrated: "calibration error before it",
  ood_auroc: "strangers told apart (AUROC)",
};

/** A row for each thing that was measured, a column for each way to run the model. */
function measured(measurements) {
  const main = measurements[0]?.data;
  const runOf = ({ engine, precision }) => `${engine} ${precision}`;
  const runs = [...new Set(measurements.map(runOf))];
  const rows = Map.groupBy(measurements, (one) => named(one, main));
  return table(["", ...runs], [...rows].map(([name, found]) => [name, ...runs.map((run) => value(found.find((one) => runOf(one) === run)))]));
}

/** The metric alone on the main data; elsewhere what it was measured on, which says enough of an accuracy. */
function named({ metric, data }, main) {
  const words = METRICS[metric] ?? metric.replaceAll("_", " ");
  if (data === main) return words;
  const on = data.replace(`${main}, `, "").replaceAll("_", " ");
  return metric === "accuracy" ? on : `${words}: ${on}`;
}

function value(measurement) {
  if (!measurement) return "–";
  const isShare = measurement.value >= 0 && measurement.value <= 1 && !measurement.metric.startsWith("nll");
  return isShare ? percent(measurement.value) : measurement.value.toLocaleString("en", { maximumFractionDigits: 3 });
}

function calibrated({ temperature, conformal_thresholds: thresholds, ood_threshold: limit }) {
  const coverages = thresholds.map(({ coverage }) => `${Math.round(100 * coverage)} %`);
  return [
    ["Temperature", temperature.toLocaleString("en", { maximumFractionDigits: 3 })],
    ["Confidence sets", coverages.length ? `for ${coverages.join(", ")}` : "none: this version was not calibrated for them"],
    ["None of these", limit === null ? "cannot tell: no limit was measured" : `beyond a score of ${decimal(limit)}`],
  ];
}

function byClass(classes) {
  const share = (value) => (value === null ? "–" : percent(value));
  return table(
    ["Class", "pictures", "found", "right when said"],
    classes.map(({ label, pictures, recall, precision }) => [label, pictures.toLocaleString("en"), share(recall), share(precision)]),
  );
}

function confusion({ class_names: names, evaluation }) {
  const rows = evaluation.confusion.map((row, actual) => {
    const total = row.reduce((sum, pictures) => sum + pictures, 0) || 1;
    const cells = row.map((pictures, said) => cell(pictures, pictures / total, actual === said, `${names[actual]} taken for ${names[said]}`));
    return element("tr", {}, element("th", { scope: "row" }, names[actual]), ...cells);
  });
  return element(
    "div",
    { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Confusion matrix" },
    element(
      "table",
      { className: "confusion" },
      element("thead", {}, element("tr", {}, element("td", {}, ""), ...names.map((name) => element("th", { scope: "col", title: name }, name)))),
      element("tbody", {}, ...rows),
    ),
  );
}

function cell(pictures, share, isRight, title) {
  const made = element("td", { className: isRight ? "is-right" : "is-wrong", title }, pictures ? String(pictures) : "");
  made.style.setProperty("--share", isRight ? share : Math.min(1, 8 * share)); // errors are rare, and are what one looks for
  return made;
}

const SIDE = 220;
const EDGE = 34;

/** How often the network was right, against how sure it said it was. */
function reliability(bins) {
  const filled = bins.filter(({ pictures, accuracy }) => pictures > 0 && accuracy !== null);
  const most = Math.max(...filled.map(({ pictures }) => pictures));
  const x = (share) => EDGE + share * SIDE;
  const y = (share) => EDGE / 2 + (1 - share) * SIDE;
  const points = filled.map(({ confidence, accuracy }) => `${x(confidence)},${y(accuracy)}`).join(" ");
  const marks = [0, 0.5, 1].flatMap((share) => [
    drawing("text", { x: x(share), y: y(0) + 15, "text-anchor": "middle" }, `${100 * share} %`),
    drawing("text", { x: x(0) - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}`),
  ]);
  return drawing(
    "svg",
    {
      class: "reliability",
      viewBox: `0 0 ${SIDE + EDGE + 20} ${SIDE + EDGE + 22}`,
      role: "img",
      "aria-label": filled.map(({ confidence, accuracy, pictures }) => `${percent(confidence)} sure, ${percent(accuracy)} right, ${pictures} pictures`).join("; "),
    },
    drawing("path", { class: "axis", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` }),
    drawing("path", { class: "ideal", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }),
    drawing("polyline", { class: "line", points }),
    ...filled.map(({ confidence, accuracy, pictures }) => drawing("circle", { cx: x(confidence), cy: y(accuracy), r: 2.5 + 4 * Math.sqrt(pictures / most) })),
    ...marks,
    drawing("text", { x: x(0.5), y: y(0) + 31, "text-anchor": "middle" }, "how sure it says it is"),
    drawing("text", { x: x(0) + 6, y: y(1) + 4 }, "how often it is right, %"),
  );
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function lineage({ lineage: known, created, weights, files, input }) {
  const size = Object.values(files).reduce((total, { bytes: one }) => total + one, 0);
  const { recipe, data, hardware, hours, git, packages } = known;
  return [
    ["Published", new Date(created).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })],
    ["Takes", `${input.width} × ${input.height} pixels`],
    ["Recipe", recipe],
    ["Trained on", data?.name ? `${data.name}, ${data.training_pictures?.toLocaleString("en") ?? "?"} pictures` : null],
    ["With", hardware?.processor ? `${hardware.cores} cores of ${hardware.processor}, ${hours?.toLocaleString("en", { maximumFractionDigits: 1 })} hours` : null],
    ["Code", git?.commit ? element("code", {}, git.commit.slice(0, 12) + (git.clean ? "" : " and changes")) : null],
    ["Packages", packages ? Object.entries(packages).map((one) => one.join(" ")).join(", ") : null],
    ["Weights", weights ? element("code", {}, weights) : null],
    ["Files", `${Object.keys(files).length}, ${bytes(size)}; each is checked against its sha256 before it is loaded`],
  ];
}
