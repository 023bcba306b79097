/** "This was wrong": sends the true label for an answer, which the service counts. */

import { announce, element, icon } from "./dom.js";
import { offers } from "./offers.js";
import { ask } from "./service.js";

/** Fills `place` with the question, or with what was answered before; with nothing where feedback is off. */
export async function askWhetherRight(place, picture) {
  if (!(await isTaken())) return;
  const { answer } = picture;
  const say = (...nodes) => {
    const hadFocus = place.contains(document.activeElement);
    place.replaceChildren(element("div", { className: "feedback" }, ...nodes));
    if (hadFocus) place.querySelector("button, select").focus();
  };
  const button = (words, act, kind = "") => {
    const made = element("button", { type: "button", className: `button compact ${kind}` }, words);
    made.addEventListener("click", act);
    return made;
  };

  async function send(label) {
    try {
      await ask("feedback", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ request_id: picture.requestId, label }),
      });
      picture.told = label;
      thank();
      announce("Thank you, that is noted.");
    } catch (error) {
      say(element("p", { className: "is-bad", role: "alert" }, error.message), button("Try again", question));
    }
  }

  function thank() {
    const words = picture.told === answer.label ? `Noted: ${answer.label} is right.` : `Noted: it is ${picture.told}, not ${answer.label}.`;
    say(element("p", { className: "is-done" }, icon("check"), words), button("Change", question, "quiet"));
  }

  function question() {
    say(
      element("p", {}, `Is “${answer.label}” right?`),
      button("Yes", () => send(answer.label)),
      button("No, this was wrong", correction),
    );
  }

  function correction() {
    const others = Object.keys(answer.probabilities).filter((label) => label !== answer.label);
    const select = element("select", { "aria-label": "What it is" }, ...others.map((label) => element("option", { value: label }, label)));
    say(element("p", {}, "What is it?"), select, button("Send", () => send(select.value), "primary"), button("Cancel", question, "quiet"));
  }

  if (picture.told) thank();
  else question();
}

async function isTaken() {
  try {
    return (await offers()).feedback;
  } catch {
    return false;
  }
}
