/** Whether the service answers, asked again and again; everything that has to wait for it waits here. */

import { send } from "./service.js";

const CALM_MS = 5000;
const ANXIOUS_MS = 1000;
const PATIENCE_MS = 4000;

class Connection extends EventTarget {
  state = "connecting"; // then ready, waiting (it answers, and says why not yet) or unreachable
  detail = "";
  #timer = 0;

  start() {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.check();
    });
    this.check();
  }

  /** Asks now, and from then on at intervals; a page that nobody sees asks only while it waits. */
  async check() {
    clearTimeout(this.#timer);
    this.#become(await probe());
    clearTimeout(this.#timer);
    if (this.state === "ready" && document.hidden) return;
    this.#timer = setTimeout(() => this.check(), this.state === "ready" ? CALM_MS : ANXIOUS_MS);
  }

  /** Resolves when the service is ready, at once if it is. */
  async untilReady() {
    if (this.state === "ready") return;
    await new Promise((resolve) => this.addEventListener("ready", resolve, { once: true }));
  }

  /** The same for whom the service has just failed, which may be news. */
  async untilBack() {
    await this.check();
    await this.untilReady();
  }

  #become({ state, detail, ready }) {
    const before = this.state;
    const isNews = state !== before || detail !== this.detail;
    Object.assign(this, { state, detail, ready });
    if (isNews) this.dispatchEvent(new CustomEvent("change", { detail: { before } }));
    if (state === "ready" && before !== "ready") this.dispatchEvent(new Event("ready"));
  }
}

async function probe() {
  try {
    const response = await send("readyz", { signal: AbortSignal.timeout(PATIENCE_MS) });
    const document = await response.json();
    if (response.ok) return { state: "ready", detail: "", ready: document };
    return { state: "waiting", detail: document.detail };
  } catch {
    return { state: "unreachable", detail: "" };
  }
}

export const connection = new Connection();
