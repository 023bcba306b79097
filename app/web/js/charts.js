/** Charts in the colours of the page, drawn by uPlot. */

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { element } from "./dom.js";

const SHORTEST_S = 60;
const NARROW = 420;

/** Lines over time; `series` is [{label, colour}], `seconds` how much of the past is shown once it was seen. */
export class Lines {
  constructor(figure, series, { seconds, format }) {
    Object.assign(this, { figure, series, seconds, format, rows: [[], ...series.map(() => [])] });
    this.legend = figure.querySelector(".legend");
    this.#draw();
    watch(figure, () => this.#draw(), (size) => this.plot.setSize(size));
  }

  /** Takes one value for each series; null leaves a gap. */
  add(time, values) {
    [time, ...values].forEach((value, index) => this.rows[index].push(value));
    while (this.rows[0][0] < time - this.seconds) for (const row of this.rows) row.shift();
    this.plot.setData(this.rows, false);
    this.#scale(time);
    this.#tell(values);
  }

  #draw() {
    this.plot?.destroy();
    const { figure, series, format } = this;
    const lines = series.map(({ label, colour }) => ({
      label,
      stroke: colourOf(colour),
      width: 2,
      points: { show: false },
      spanGaps: false,
    }));
    const options = {
      ...frame(figure, format),
      axes: axes(format, (plot, times) => times.map((time) => ago(plot.scales.x.max - time)), moments),
      scales: { x: { time: false, auto: false }, y: { auto: false } },
      series: [{}, ...lines],
    };
    this.plot = new uPlot(options, this.rows, figure.querySelector(".chart-place"));
    this.#scale(this.rows[0].at(-1) ?? 0);
  }

  #scale(time) {
    const highest = Math.max(0, ...this.rows.slice(1).flat());
    const seen = time - (this.rows[0][0] ?? time);
    this.plot.batch(() => {
      this.plot.setScale("x", { min: time - Math.min(this.seconds, Math.max(SHORTEST_S, seen)), max: time });
      this.plot.setScale("y", { min: 0, max: highest ? highest * 1.15 : 1 });
    });
  }

  #tell(values) {
    const words = this.series.map(({ label, colour }, index) => {
      const key = element("span", {}, `${label} ${values[index] === null ? "–" : this.format(values[index])}`);
      key.style.setProperty("--key", `var(--${colour})`);
      return key;
    });
    this.legend.replaceChildren(...words);
  }
}

/** Upright bars with names below. */
export class Columns {
  constructor(figure, format) {
    Object.assign(this, { figure, format, names: [], values: [] });
    watch(figure, () => this.#draw(), (size) => this.plot?.setSize(size));
  }

  show(names, values) {
    const isSameShape = names.length === this.names.length && this.plot;
    Object.assign(this, { names, values });
    if (!isSameShape) this.#draw();
    this.plot.setData([names.map((_, index) => index), values]);
    this.plot.setScale("x", { min: -0.6, max: names.length - 0.4 });
    this.plot.setScale("y", { min: 0, max: Math.max(...values, 0) * 1.15 || 1 });
  }

  #draw() {
    this.plot?.destroy();
    const { figure, format, names } = this;
    const colour = colourOf("accent");
    const options = {
      ...frame(figure),
      axes: axes(
        format,
        (_plot, places) => places.map((place) => names[place]),
        () => names.map((_, index) => index),
      ),
      scales: { x: { time: false, auto: false }, y: { auto: false } },
      series: [{}, { stroke: colour, fill: colour, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.6, 64] }) }],
    };
    this.plot = new uPlot(options, [names.map((_, index) => index), this.values], figure.querySelector(".chart-place"));
  }
}

function frame(figure) {
  return { ...sizeOf(figure), cursor: { show: false }, legend: { show: false }, padding: [8, 16, 0, 0] };
}

function axes(format, names, splits) {
  const look = { stroke: colourOf("muted"), font: "12px Inter, sans-serif", ticks: { show: false } };
  const line = { stroke: colourOf("line"), width: 1 };
  return [
    { ...look, grid: { show: false }, values: names, splits, space: 72, size: 28 },
    { ...look, grid: line, values: (_plot, values) => values.map(format), size: 64, space: 44 },
  ];
}

/** Places on the time axis, evenly back from now. */
function moments(plot, _axis, min, max) {
  const parts = plot.width < NARROW ? 2 : 4;
  return Array.from({ length: parts }, (_, index) => max - ((parts - index) * (max - min)) / parts).concat(max);
}

function ago(seconds) {
  const whole = Math.round(seconds);
  if (whole <= 0) return "now";
  if (whole <= 90) return `${whole} s ago`;
  return `${(whole / 60).toLocaleString("en", { maximumFractionDigits: 1 })} min ago`;
}

function sizeOf(figure) {
  const place = figure.querySelector(".chart-place");
  return { width: place.clientWidth, height: place.clientHeight };
}

/** Draws anew when the colours change, and fits when the width does. */
function watch(figure, redraw, fit) {
  addEventListener("colours", redraw);
  new ResizeObserver(() => {
    const size = sizeOf(figure);
    if (size.width) fit(size);
  }).observe(figure.querySelector(".chart-place"));
}

/** What a colour of the stylesheet is at this moment: a canvas knows no variables. */
function colourOf(name) {
  const probe = element("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
