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
const MOST_SILENCES = 2;
const LONGEST_WAIT_S = 20;
const PATIENCE_MS = 4000;

const waiting = [];
const sending = new Set();

/** Sends pictures when their turn comes; one that is under way finds out by itself what is asked for meanwhile. */
export function enqueue(...pictures) {
  const added = pictures.filter((picture) => !waiting.includes(picture) && !sending.has(picture));
  for (const picture of added) picture.become({ state: "waiting", waitsFor: "Waiting for its turn", failure: null });
  waiting.push(...added);
  advance();
}

/** Drops what is not yet sent. */
export function drop() {
  waiting.length = 0;
}

function advance() {
  while (sending.size < AT_ONCE && waiting.length) work(waiting.shift());
}

async function work(picture) {
  sending.add(picture);
  try {
    await classify(picture);
  } finally {
    sending.delete(picture);
    advance();
  }
}

async function classify(picture) {
  const spent = { tries: 0, silences: 0 };
  while (!picture.signal.aborted) {
    picture.become({ state: "sending", waitsFor: "Looking at it" });
    const { coverage } = picture;
    const began = performance.now();
    try {
      const { document, headers } = await askFully("predict", request(picture));
      if (coverage !== picture.coverage) continue; // another set was asked for meanwhile
      picture.accept(document, headers, performance.now() - began);
      return;
    } catch (error) {
      if (picture.signal.aborted) return;
      const failure = coverage === picture.coverage && (await outlast(error, picture, spent));
      if (failure) {
        picture.become({ state: "failed", failure });
        return;
      }
    }
  }
}

function request({ file, coverage, signal }) {
  return {
    signal,
    method: "POST",
    body: file,
    headers: { "Content-Type": "application/octet-stream" },
    query: { input: true, coverage },
  };
}

/** Waits until it is worth another try and gives null, or gives the failure that no waiting cures. */
async function outlast(error, picture, spent) {
  spent.tries += 1;
  if (error instanceof Unreachable) return outlastSilence(picture, spent);
  if (!(error instanceof Problem)) throw error;
  if (error.status !== 503 || spent.tries >= MOST_TRIES) {
    const isOurs = error.code === "invalid_parameter"; // a confidence that this version was not calibrated for
    if (isOurs) picture.coverage = null;
    return described(error, isOurs);
  }
  if (error.code === "not_ready") {
    picture.become({ waitsFor: "Waiting until the service is ready" });
    await unlessForgotten(picture, connection.untilBack());
  } else {
    const seconds = Math.min(LONGEST_WAIT_S, error.retryAfterS || 1);
    picture.become({ waitsFor: `The service is busy; trying again in ${seconds} s` });
    await unlessForgotten(picture, pause(seconds));
  }
  return null;
}

/**
 * A service that refuses a body half-way ends the connection, which looks just like one that is gone, or like one of
 * its processes that ended: only what happens again and again is put down to the picture.
 */
async function outlastSilence(picture, spent) {
  try {
    await send("livez", { signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    picture.become({ waitsFor: "Waiting until the service can be reached" });
    await unlessForgotten(picture, connection.untilBack());
    return null;
  }
  spent.silences += 1;
  if (spent.silences > MOST_SILENCES) return notThrough(picture);
  picture.become({ waitsFor: "The connection ended; trying again in 1 s" });
  await unlessForgotten(picture, pause(1));
  return null;
}

function notThrough({ file }) {
  return {
    title: "The picture did not get through",
    detail:
      `The connection ended while the picture was being sent. It has ${bytes(file.size)}, which may be more ` +
      "than the service takes, or it changed since it was chosen. Try a smaller copy.",
    canPass: true,
  };
}

/** What is waited for must not keep a place for a picture that is cleared meanwhile. */
async function unlessForgotten({ signal }, awaited) {
  if (signal.aborted) return;
  await Promise.race([awaited, new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }))]);
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

/** What is wrong with the picture stays wrong; what is wrong with the service may pass. */
function described({ title, message, requestId, status }, isOurs) {
  return { title, detail: message, requestId, canPass: isOurs || status >= 500 || status === 408 };
}
