/** One picture and what became of it. */

let made = 0;

export class Picture extends EventTarget {
  #gone = new AbortController();
  id = ++made;
  state = "waiting"; // then sending, and answered or failed
  waitsFor = ""; // why it is not sent yet, in words
  coverage = null; // of the confidence set; null for the service's own
  answer = null;
  headers = null;
  roundTripMs = 0;
  failure = null; // {title, detail, requestId, canPass}
  explanations = new Map(); // what /explain answered, by label
  told = ""; // the label that the person said is right

  constructor(file) {
    super();
    this.file = file;
    this.name = file.name || "picture";
    this.url = URL.createObjectURL(file);
  }

  /** Takes new values and says so. */
  become(values) {
    Object.assign(this, values);
    this.dispatchEvent(new Event("change"));
  }

  /** Takes an answer; what was found out about that of another version goes with it. */
  accept(answer, headers, roundTripMs) {
    if (this.answer && !isSameVersion(this.answer.model, answer.model)) Object.assign(this, { explanations: new Map(), told: "" });
    this.become({ state: "answered", answer, headers, roundTripMs });
  }

  get requestId() {
    return this.headers?.get("X-Request-ID") ?? "";
  }

  /** Milliseconds by stage, as the header Server-Timing says them. */
  get timing() {
    const header = this.headers?.get("Server-Timing") ?? "";
    return Object.fromEntries([...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]));
  }

  /** Aborted when the picture is forgotten: ends what is under way for it. */
  get signal() {
    return this.#gone.signal;
  }

  forget() {
    URL.revokeObjectURL(this.url);
    this.#gone.abort();
  }
}

function isSameVersion(one, other) {
  return ["name", "version", "weights"].every((part) => one[part] === other[part]);
}
