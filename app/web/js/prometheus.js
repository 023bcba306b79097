/** Prometheus's text format, and what it says about a stretch of time. */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** The samples of a text by the name of their metric, each {labels, value}. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels: labelsOf(labels), value: Number(value) });
  }
  return found;
}

function labelsOf(text) {
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, value.replaceAll(/\\(.)/g, "$1")]));
}

/** Sum of the samples of a metric that `matches` picks by their labels. */
export function sum(samples, name, matches = () => true) {
  return (samples.get(name) ?? []).filter(({ labels }) => matches(labels)).reduce((total, { value }) => total + value, 0);
}

/** How much a counter grew; one that shrank began again with its process. */
export function growth(before, after) {
  return after >= before ? after - before : after;
}

/** What a histogram counted between two readings: [{above, upTo, count}], the last `upTo` infinite. */
export function histogram(before, after, name, matches = () => true) {
  const then = cumulative(before, name, matches);
  let [above, below] = [0, 0];
  return [...cumulative(after, name, matches)].map(([upTo, total]) => {
    const counted = growth(then.get(upTo) ?? 0, total);
    const bucket = { above, upTo, count: Math.max(0, counted - below) };
    [above, below] = [upTo, counted];
    return bucket;
  });
}

function cumulative(samples, name, matches) {
  const found = (samples.get(`${name}_bucket`) ?? []).filter(({ labels }) => matches(labels));
  return new Map(found.map(({ labels, value }) => [labels.le === "+Inf" ? Infinity : Number(labels.le), value]));
}

/** The value below which `share` of what a histogram counted lies, taken as even within a bucket; null if it is empty. */
export function quantile(buckets, share) {
  const wanted = share * buckets.reduce((total, { count }) => total + count, 0);
  if (!wanted) return null;
  let passed = 0;
  for (const { above, upTo, count } of buckets) {
    if (passed + count >= wanted) return upTo === Infinity ? above : above + ((wanted - passed) / count) * (upTo - above);
    passed += count;
  }
  return null;
}
