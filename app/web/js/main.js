import * as banner from "./banner.js";
import { connection } from "./connection.js";
import { show } from "./dom.js";
import * as gallery from "./gallery.js";
import * as intake from "./intake.js";
import * as router from "./router.js";

const RETRY_MS = 1000;

/** Loads a view's code when the view is first entered; what it gives for leaving may so come late, or never. */
function opened(name, load) {
  return () => {
    const left = new AbortController();
    const entered = loaded(name, load, left.signal).then((view) => view?.enter());
    return () => {
      left.abort();
      entered.then((leave) => leave?.());
    };
  };
}

/** Fetches a view's code as soon as the service gives it; nothing for a view that was left before. */
async function loaded(name, load, left) {
  const notice = document.querySelector(`#${name} .notice`);
  for (let tries = 0; !left.aborted; tries += 1) {
    try {
      const view = await load(tries ? `?${tries}` : ""); // under the same address, browsers may only remember the failure
      show(notice, false);
      return left.aborted ? null : view;
    } catch {
      notice.textContent = "This view could not be fetched. It comes as soon as the service can be reached again.";
      show(notice);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    await connection.untilBack();
  }
  return null;
}

banner.start();
gallery.start();
intake.start((files) => {
  location.hash = "#classify";
  gallery.take(files);
});
router.start({
  classify: () => undefined,
  models: opened("models", (again) => import(`./models.js${again}`)),
  live: opened("live", (again) => import(`./live.js${again}`)),
});
connection.start();
