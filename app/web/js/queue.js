/**
 * Sends pictures to /predict, a few at a time: each has its own request, and so its own id, times and errors.
 *
 * What only time can cure is tried again: a service that is full says when, one that is not there is waited for.
 */

import { connection } from "./connection.js";
import { Problem, Unreachable, askFully, send } from "./service.js";
import { bytes } from "./words.js";

const AT_ONCE = 4;
const MOST_TRIES = 8;
const LONGEST_WAIT_S = 20;

const waiting = [];
let working = 0;

export function enqueue(...pictures) {
  for (const picture of pictures) picture.become({ state: "waiting", waitsFor: "Waiting for its turn", failure: null });
  waiting.push(...pictures);
  while (working < AT_ONCE && working < waiting.length) work();
}

/** Drops what is not yet sent. */
export function drop() {
  waiting.length = 0;
}

async function work() {
  working += 1;
  for (let picture = waiting.shift(); picture; picture = waiting.shift()) await classify(picture);
  working -= 1;
}

async function classify(picture) {
  for (let tries = 1; ; tries += 1) {
    picture.become({ state: "sending", waitsFor: "Looking at it" });
    const began = performance.now();
    try {
      const { document, headers } = await askFully("predict", request(picture));
      const roundTripMs = performance.now() - began;
      picture.become({ state: "answered", answer: document, headers, roundTripMs });
      return;
    } catch (error) {
      const failure = await outlast(error, picture, tries);
      if (failure) {
        picture.become({ state: "failed", failure });
        return;
      }
    }
  }
}

function request({ file, coverage }) {
  return {
    method: "POST",
    body: file,
    headers: { "Content-Type": "application/octet-stream" },
    query: { input: true, coverage },
  };
}

/** Waits until it is worth another try and gives null, or gives the failure that no waiting cures. */
async function outlast(error, picture, tries) {
  if (error instanceof Unreachable) return outlastSilence(picture);
  if (!(error instanceof Problem)) throw error;
  if (error.status !== 503 || tries >= MOST_TRIES) {
    const isOurs = error.code === "invalid_parameter"; // a confidence that this version was not calibrated for
    if (isOurs) picture.coverage = null;
    return described(error, isOurs);
  }
  if (error.code === "not_ready") {
    picture.become({ waitsFor: "Waiting until the service is ready" });
    await connection.check();
    await connection.untilReady();
  } else {
    const seconds = Math.min(LONGEST_WAIT_S, error.retryAfterS || 1);
    picture.become({ waitsFor: `The service is busy; trying again in ${seconds} s` });
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
  return null;
}

/** A service that refuses a body half-way ends the connection, which looks just like one that is gone. */
async function outlastSilence(picture) {
  try {
    await send("livez");
    return {
      title: "The picture did not get through",
      detail:
        `The connection ended while the picture was being sent. It has ${bytes(picture.file.size)}, which may be more ` +
        "than the service takes, or it changed since it was chosen. Try a smaller copy.",
      canPass: true,
    };
  } catch {
    picture.become({ waitsFor: "Waiting until the service can be reached" });
    await connection.check();
    await connection.untilReady();
    return null;
  }
}

/** What is wrong with the picture stays wrong; what is wrong with the service may pass. */
function described({ title, message, requestId, status }, isOurs) {
  return { title, detail: message, requestId, canPass: isOurs || status >= 500 || status === 408 };
}
