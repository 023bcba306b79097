/** The admin key: typed by a person, kept in memory only, gone with the page. */

import { show } from "./dom.js";
import { offers } from "./offers.js";
import { Problem, ask } from "./service.js";

const form = document.getElementById("admin");
const field = document.getElementById("admin-key");
const use = document.getElementById("admin-use");
let key = "";

/** Asks for a key, if the service takes one. */
export async function offer() {
  try {
    const { management } = await offers();
    show(form, management);
  } catch {
    // Without the service there is nothing to manage; the view says so, and asks again when it is entered.
  }
}

/** Calls `changed` when a key is there or gone. */
export function start(changed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    key = key ? "" : field.value.trim();
    field.value = "";
    settle(changed);
  });
}

export function isThere() {
  return key !== "";
}

/** Sends a request that needs the key; a refusal of the key is told in words. */
export async function command(method, path, body) {
  try {
    return await ask(path, {
      method,
      headers: { Authorization: `Bearer ${key}`, ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof Problem && [401, 403].includes(error.status)) {
      throw new Error("The service does not know this key. It is what CLASSIFIER_ADMIN_KEY says where it was started.", { cause: error });
    }
    throw error;
  }
}

function settle(changed) {
  form.classList.toggle("is-open", isThere());
  form.querySelector("label").textContent = isThere() ? "An admin key is in use until this page closes" : "Admin key";
  show(field, !isThere());
  use.textContent = isThere() ? "Forget it" : "Use";
  use.focus(); // Enter in the field leaves it there, and the field goes
  changed();
}
