/** Over the picture, on demand: which of its parts speak for a label. */

import { announce, show } from "./dom.js";
import { ask } from "./service.js";
import { percent } from "./words.js";

export class Explanation {
  #shown = null; // the label whose map is over the picture

  constructor(picture, parts, bars) {
    Object.assign(this, { picture, parts, bars });
    parts["hide-overlay"].addEventListener("click", () => {
      const label = this.#shown;
      this.hide();
      bars.focus(label); // the button that hides it is hidden with it
    });
  }

  /** Shows the map for a label; shown already, it goes. */
  async toggle(label) {
    if (this.#shown === label) {
      this.hide();
      return;
    }
    this.#shown = label;
    this.bars.mark(label, true);
    this.#say("");
    try {
      const found = await this.#explained(label);
      if (this.#shown === label) this.#show(label, found);
    } catch (error) {
      if (this.#shown !== label) return;
      this.hide();
      this.#say(error.message);
    }
  }

  hide() {
    this.#shown = null;
    this.bars.mark(null);
    show(this.parts.overlay, false);
    show(this.parts["overlay-caption"], false);
    show(this.parts.caption);
  }

  /** Asked for once for each label. */
  async #explained(label) {
    const { file, signal, explanations } = this.picture;
    if (!explanations.has(label)) {
      const request = { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" }, query: { label }, signal };
      explanations.set(label, await ask("explain", request));
    }
    return explanations.get(label);
  }

  #show(label, { overlay, probability }) {
    const { parts } = this;
    parts.overlay.src = `data:image/png;base64,${overlay}`;
    parts.overlay.alt = `Your picture, with the parts marked that speak for ${label}`;
    parts["overlay-words"].textContent = `Bright and in colour: what speaks for ${label} (${percent(probability)})`;
    show(parts.overlay);
    show(parts["overlay-caption"]);
    show(parts.caption, false);
    parts.overlay.parentElement.scrollIntoView({ block: "nearest", behavior: "smooth" });
    this.bars.mark(label);
    announce(`Over the picture: what speaks for ${label}.`);
  }

  #say(words) {
    this.parts["explain-problem"].textContent = words;
    show(this.parts["explain-problem"], Boolean(words));
  }
}
