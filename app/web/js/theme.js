// A classic script, so that it runs before the first paint: a chosen colour scheme must not flash.
const CHOSEN = "colour-scheme";
const chosen = localStorage.getItem(CHOSEN);
if (chosen) document.documentElement.dataset.theme = chosen;

addEventListener("DOMContentLoaded", () => {
  const order = ["system", "light", "dark"];
  const words = { system: "as the system", light: "light", dark: "dark" };
  const button = document.getElementById("theme");

  function show() {
    const theme = document.documentElement.dataset.theme ?? "system";
    button.setAttribute("aria-label", `Colours: ${words[theme]}`);
    button.title = `Colours: ${words[theme]}`;
    button.querySelector("use").setAttribute("href", `#icon-theme-${theme}`);
  }

  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "system";
    const next = order[(order.indexOf(now) + 1) % order.length];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem(CHOSEN);
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem(CHOSEN, next);
    }
    show();
    dispatchEvent(new Event("colours"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("colours")));
  show();
});
