/** What this service offers beyond classifying, as it was started: asked once. */

import { ask } from "./service.js";

let known = null;

/** The directions that the service gives to programs. */
export function offers() {
  known ??= ask("./").catch((error) => {
    known = null; // next time it may answer
    throw error;
  });
  return known;
}
