/** Which view is shown: the part of the address behind #, so that back, forward and bookmarks work. */

const FIRST = "classify";

/** `views` maps names to functions that are called when a view is entered and may return one for leaving. */
export function start(views) {
  let leave;
  let current;

  function go(isFirst = false) {
    const asked = location.hash.slice(1);
    const name = asked in views ? asked : current ?? FIRST;
    if (name === current) return;
    leave?.();
    current = name;
    for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== name;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    leave = views[name]();
    const title = document.querySelector(`#${name} h1`);
    document.title = name === FIRST ? "Image classification" : `${title.textContent}, image classification`;
    if (!isFirst) {
      scrollTo(0, 0);
      title.focus({ preventScroll: true });
    }
  }

  addEventListener("hashchange", () => go());
  go(true);
}
