import * as banner from "./banner.js";
import { connection } from "./connection.js";
import * as gallery from "./gallery.js";
import * as intake from "./intake.js";
import * as router from "./router.js";

banner.start();
gallery.start();
intake.start((files) => {
  location.hash = "#classify";
  gallery.take(files);
});
router.start({ classify: () => undefined });
connection.start();
