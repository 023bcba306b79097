/** Numbers and names as people read them. */

const MOST_DECIMALS = 9;
const ONE_DECIMAL = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A probability: 86.9 %, and never 0 or 100 % for what is neither. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share < 1 && share >= 0.9995) return "> 99.9 %";
  return `${ONE_DECIMAL.format(100 * share)} %`;
}

/** A number that may be negative. */
export function decimal(value, decimals = 2) {
  return value.toFixed(decimals).replace("-", "\u2212");
}

/** Two numbers with as many decimals as it takes to tell one from the other. */
export function apart(one, other) {
  let decimals = 2;
  while (decimals < MOST_DECIMALS && decimal(one, decimals) === decimal(other, decimals)) decimals += 1;
  return [decimal(one, decimals), decimal(other, decimals)];
}

export function milliseconds(value) {
  if (value >= 1000) return `${ONE_DECIMAL.format(value / 1000)} s`;
  return `${ONE_DECIMAL.format(value)} ms`;
}

/** "a", "a or b", "a, b or c" */
export function either(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

export function count(number, one, several = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : several}`;
}

export function bytes(size) {
  if (size < 1024) return `${size} bytes`;
  return size < 1024 ** 2 ? `${ONE_DECIMAL.format(size / 1024)} KiB` : `${ONE_DECIMAL.format(size / 1024 ** 2)} MiB`;
}
