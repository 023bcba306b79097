/** Elements without markup in strings: the page's policy allows none, so a file name can never become code. */

/** An element; `properties` are set on it, and those that are no properties become attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in made) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The symbol `icon-<name>` of the page. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A copy of a template's content, and what in it has a `data-part`, by that name. */
export function stamp(templateId) {
  const root = document.getElementById(templateId).content.cloneNode(true).firstElementChild;
  return { root, parts: partsOf(root) };
}

export function partsOf(root) {
  return Object.fromEntries([...root.querySelectorAll("[data-part]")].map((found) => [found.dataset.part, found]));
}

/** Rows of a definition list; those without a value are left out. */
export function definitions(pairs) {
  return pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
}

export function show(shown, isShown = true) {
  shown.hidden = !isShown;
}

/** Lets a screen reader say it, without moving the focus. */
export function announce(words) {
  const place = document.getElementById("announcements");
  place.textContent = place.textContent === words ? `${words}\u00a0` : words; // the same again is no change, and not said
}
