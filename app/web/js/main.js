import * as banner from "./banner.js";
import { connection } from "./connection.js";
import * as gallery from "./gallery.js";
import * as intake from "./intake.js";
import * as router from "./router.js";

/** Loads a view's code when the view is first entered; what it gives for leaving may so come late. */
function opened(load) {
  return () => {
    const entered = load().then((view) => view.enter());
    return () => entered.then((leave) => leave());
  };
}

banner.start();
gallery.start();
intake.start((files) => {
  location.hash = "#classify";
  gallery.take(files);
});
router.start({
  classify: () => undefined,
  models: opened(() => import("./models.js")),
  live: opened(() => import("./live.js")),
});
connection.start();
