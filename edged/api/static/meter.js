// A level meter in dB below full scale.
import { make, replace } from "./element.js";

const LOWEST = -60; // dB; what is quieter is an empty meter
const FALL = 24; // dB that the bar falls in a second
const HOLD = 1.2; // seconds that the peak stays
const LOUD = -3; // dB above which it may be distorted

const share = (decibels) => Math.min(1, Math.max(0, 1 - decibels / LOWEST));

/** Draws what it is told, and falls by itself when it is told nothing. */
export class Meter {
  constructor(parent, name) {
    this._bar = make("i.bar");
    this._mark = make("i.mark");
    this._value = make("span.value", { "aria-hidden": "true" });
    this._track = make("div.track", {
      role: "meter", "aria-label": name, "aria-valuemin": LOWEST, "aria-valuemax": 0,
    }, this._bar, this._mark);
    replace(parent, make("div.meter", {}, this._track, this._value));
    this._level = this._peak = LOWEST;
    this._held = 0;
    this._said = null;
    this._drawn = null;
    this._draw = this._draw.bind(this);
    this._tell();
    this._paint();
  }

  /** A level of just now. */
  take({ rms, peak }) {
    const now = performance.now() / 1000;
    this._level = Math.max(this._level, rms);
    if (peak >= this._peak || now > this._held) {
      this._peak = Math.max(peak, LOWEST);
      this._held = now + HOLD;
    }
    if (this._drawn === null) {
      this._drawn = now;
      requestAnimationFrame(this._draw);
    }
  }

  _draw() {
    const now = performance.now() / 1000;
    this._level = Math.max(LOWEST, this._level - FALL * (now - this._drawn));
    if (now > this._held) this._peak = Math.max(this._level, this._peak - FALL * (now - this._drawn));
    this._drawn = now;
    this._paint();
    if (this._said === null || now - this._said > 0.5) this._tell(now);
    if (this._level > LOWEST || this._peak > LOWEST) requestAnimationFrame(this._draw);
    else {
      this._drawn = null;
      this._tell();
    }
  }

  _paint() {
    this._bar.style.transform = `scaleX(${share(this._level)})`;
    this._mark.style.left = `${share(this._peak) * 100}%`;
    this._mark.hidden = this._peak <= LOWEST;
    this._track.classList.toggle("loud", this._peak > LOUD);
  }

  /** In words, not so often that nobody can follow. */
  _tell(now = null) {
    this._said = now;
    const quiet = this._level <= LOWEST;
    this._value.textContent = quiet ? "quiet" : `${Math.round(this._level)} dB`;
    this._track.setAttribute("aria-valuenow", Math.round(this._level));
    this._track.setAttribute("aria-valuetext", quiet ? "quiet" : `${Math.round(this._level)} decibels`);
  }
}

/** The level of samples between -1 and 1. */
export function levelOf(samples) {
  let squares = 0;
  let highest = 0;
  for (const sample of samples) {
    squares += sample * sample;
    highest = Math.max(highest, Math.abs(sample));
  }
  const decibels = (amplitude) => 20 * Math.log10(Math.max(1e-5, amplitude));
  return { rms: decibels(Math.sqrt(squares / samples.length)), peak: decibels(highest) };
}
