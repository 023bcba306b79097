/** The answer to one picture: what it is, how sure that is, where the time went, what answered. */

import { Bars } from "./bars.js";
import { announce, definitions, element, icon, show, stamp } from "./dom.js";
import { Explanation } from "./explanation.js";
import { askWhetherRight } from "./feedback.js";
import { showCode } from "./snippets.js";
import { showTiming } from "./timing.js";
import { apart, bytes, either, percent } from "./words.js";

const NOTES = {
  animated: "It is animated: the first frame was used.",
  enlarged: "It has fewer pixels than the network takes and was enlarged: expect a guess.",
  extreme_shape: "It is at least four times as long as wide, and was squeezed into a square.",
  nearly_blank: "There is hardly any difference between its pixels.",
  rotated: "It was turned upright, as its camera says it was held.",
  transparent: "Its see-through parts were put on white.",
};

const MOST_NAMED = 8;

export class AnswerView {
  #tellsSet = false; // the person asked for another set, and a screen reader has to say which came

  /** `again` sends the picture once more; `all` gives the pictures of this visit. */
  constructor(picture, { again, all }) {
    const { root, parts } = stamp("answer-template");
    Object.assign(this, { picture, root, parts, all });
    this.bars = new Bars(parts.bars, (label) => this.explanation.toggle(label));
    this.explanation = new Explanation(picture, parts, this.bars);
    this.update = () => this.#update();
    picture.addEventListener("change", this.update);
    parts.again.addEventListener("click", () => {
      again();
      parts.pending.focus(); // the button is gone
    });
    parts.coverage.addEventListener("change", () => {
      picture.coverage = parts.coverage.value;
      this.#tellsSet = true;
      again();
    });
    this.#showPicture();
    this.#update();
  }

  /** Ends what was begun for a view that is not shown any more. */
  leave() {
    this.picture.removeEventListener("change", this.update);
    this.explanation.hide();
  }

  #showPicture() {
    const { parts, picture } = this;
    parts.picture.addEventListener("error", () => {
      show(parts.picture, false);
      show(parts.unshown);
    });
    parts.picture.src = picture.url;
    parts.picture.alt = `Your picture, ${picture.name}`;
    parts.caption.append(element("span", {}, picture.name), element("span", {}, bytes(picture.file.size)));
  }

  #update() {
    const { parts, picture } = this;
    const { state, answer } = picture;
    const isPending = state === "waiting" || state === "sending";
    const hadFocus = document.activeElement === parts.pending;
    show(parts.pending, isPending);
    parts["pending-words"].textContent = picture.waitsFor;
    show(parts.failure, state === "failed");
    show(parts.verdict, Boolean(answer) && state !== "failed");
    show(parts.more, Boolean(answer) && state !== "failed");
    if (state === "failed") this.#showFailure(picture.failure);
    if (state === "answered") this.#showAnswer(answer);
    if (!isPending) this.#tell(hadFocus);
  }

  /** For those who do not see what changed. */
  #tell(hadFocus) {
    const { parts, picture } = this;
    const isAnswered = picture.state === "answered";
    if (hadFocus) parts[isAnswered ? "heading" : "failure-title"].focus();
    if (this.#tellsSet && isAnswered) announce(parts["set-words"].textContent);
    this.#tellsSet = false;
  }

  #showFailure({ title, detail, requestId, canPass }) {
    const { parts } = this;
    parts["failure-title"].textContent = title;
    parts["failure-words"].textContent = detail;
    show(parts.again, canPass);
    parts["failure-request"].textContent = requestId ? `Request ${requestId}` : "";
  }

  #showAnswer(answer) {
    const { parts, picture } = this;
    parts.label.textContent = answer.label;
    parts.probability.textContent = percent(answer.probability);
    this.#showStranger(answer);
    this.#showSet(answer);
    this.#showInput(answer.input);
    parts.notes.replaceChildren(
      ...answer.image.notes.map((note) => element("li", {}, icon("warning"), NOTES[note] ?? note.replaceAll("_", " "))),
    );
    this.explanation.hide();
    this.bars.show(answer);
    askWhetherRight(parts.feedback, picture);
    showTiming(parts.strip, parts.stages, picture);
    parts.facts.replaceChildren(...definitions(facts(picture)));
    showCode(parts.code, picture, this.all());
  }

  #showStranger({ in_distribution: isKnown, ood_score: score, ood_threshold: threshold, label }) {
    const { parts } = this;
    const isStranger = isKnown === false;
    parts.verdict.classList.toggle("is-stranger", isStranger);
    show(parts.stranger, isStranger);
    show(parts["stranger-words"], isStranger);
    if (!isStranger) return;
    const [itsScore, limit] = apart(score, threshold);
    parts["stranger-words"].textContent =
      `The network knows only the classes below, and this picture looks unlike what it learned from ` +
      `(score ${itsScore}, the limit is ${limit}). Take “${label}” as the nearest of them, not as an answer.`;
  }

  /** How often a set is right is measured over many pictures: of one picture, and of one unlike them, it says nothing. */
  #showSet({ confidence_set: set, in_distribution: isKnown }) {
    const { parts } = this;
    const isStranger = isKnown === false;
    show(parts.set, Boolean(set));
    if (!set) return;
    const share = `${Math.round(100 * set.coverage)} %`;
    const words = isStranger ? ["A set of classes promises nothing for such a picture."] : [`Set for ${share}: `, element("strong", {}, named(set.labels)), "."];
    parts["set-words"].replaceChildren(...words);
    parts["set-promise"].textContent = isStranger ? "" : `Of pictures like those it was calibrated on, ${share} have their class in such a set.`;
    show(parts["set-choice"], !isStranger);
    parts.coverage.value = String(set.coverage);
  }

  #showInput(input) {
    const { parts } = this;
    show(parts.seen, Boolean(input));
    if (!input) return;
    parts.input.src = `data:image/png;base64,${input.png}`;
    parts.input.alt = `The same picture in ${input.width} by ${input.height} pixels`;
    parts["input-words"].textContent = `${input.width} × ${input.height} pixels: this is all that the network sees.`;
  }
}

function named(labels) {
  if (labels.length <= MOST_NAMED) return either(labels);
  return `${labels.slice(0, MOST_NAMED).join(", ")} and ${labels.length - MOST_NAMED} more`;
}

function facts({ answer, requestId }) {
  const { model, image } = answer;
  return [
    ["Model", `${model.name}, version ${model.version}`],
    ["Runs on", `${model.engine}, ${model.precision}`],
    ["Right on", typeof model.accuracy === "number" ? `${percent(model.accuracy)} of the test pictures` : null],
    ["Weights", model.weights ? element("code", {}, model.weights) : null],
    ["Picture", `${image.format}, ${image.width} × ${image.height} pixels`],
    ["Request", element("code", {}, requestId)],
  ];
}
