// Captions of one stream: what was said, and below it what is being said.
import { make, replace } from "./element.js";
import { clock, duration, rung } from "./format.js";
import { WordClock } from "./words.js";

const LONGEST = 200; // lines kept
const UNSURE = 0.5; // confidence below which a word is marked
const NEAR = 60; // pixels from its end at which the log follows what comes
const GAPS = {
  muted: (seconds) => `Muted for ${seconds}`,
  device_lost: (seconds) => `${seconds} not heard: the microphone was gone`,
  overrun: (seconds) => `${seconds} not heard: the engine was too far behind`,
  client_late: (seconds) => `${seconds} not heard: the audio came too late`,
  skipped: (seconds) => `${seconds} given up: the engine failed at it twice`,
};

/** Shows events as they come, and `nothing` (a text) while there are none. */
export class Captions {
  constructor(parent, name, nothing) {
    this._nothing = make("p.nothing", {}, nothing);
    this._log = make("ol.log");
    this._scroll = make("div.scroll", { tabIndex: 0, role: "log", "aria-label": name }, this._nothing, this._log);
    this._stable = make("span.stable");
    this._unstable = make("span.unstable");
    this._age = make("small.soft");
    this._idle = make("span.soft");
    this._open = make("div.open", { role: "group", "aria-label": "Being said" },
      make("p", {}, this._stable, this._unstable, this._idle), this._age);
    replace(parent, this._scroll, this._open);
    this._atEnd = true;
    this._scroll.addEventListener("scroll", () => { if (this._scroll.clientHeight) this._atEnd = this._isAtEnd(); });
    new ResizeObserver(() => this._follow()).observe(this._scroll);
    this._words = new WordClock();
    this._ids = new Set();
    this._tell = {
      speech_started: this._words.begin.bind(this._words),
      partial: this._partial, final: this._final, gap: this._gap, engine: this._engine,
    };
    this.last = null; // the last final's latency, with `words` where it is known
  }

  /** Take an event; others than those of speech are ignored. */
  take(event) {
    this._tell[event.type]?.call(this, event);
  }

  /** What was said before, as it is stored, in any order. */
  restore(transcripts) {
    for (const { event, time } of transcripts) {
      if (!this._ids.has(event.id)) this._add(final(event, time, null), event.id);
    }
    this._follow();
  }

  /** What stands there while nobody speaks. */
  rest(text) {
    this._idle.textContent = text;
  }

  /** Nothing is being said any more: the connection is gone. */
  interrupt() {
    this._show("", "");
  }

  _partial(event) {
    this._words.partial(event);
    this._show(event.stable, event.text.slice(event.stable.length));
    this._age.textContent = `${duration(event.age)} behind`;
  }

  _final(event) {
    const words = this._words.final(event);
    this._show("", "");
    if (!event.text || this._ids.has(event.id)) return;
    this.last = { ...event.latency, words };
    const began = Date.now() / 1000 - event.latency.total - (event.end - event.start);
    this._add(final(event, began, words), event.id);
  }

  _gap(event) {
    const length = duration(event.end - event.start);
    this._add(make("li.note", {}, GAPS[event.reason]?.(length) ?? `${length} not heard: ${event.reason}`));
  }

  _engine(event) {
    const why = event.reason ? `: ${event.reason}` : "";
    this._add(make("li.note", {}, `The engine is now ${rung(event.to)}${why}`));
  }

  _show(stable, unstable) {
    this._stable.textContent = stable;
    this._unstable.textContent = unstable;
    this._age.textContent = "";
    const speaking = Boolean(stable || unstable);
    this._open.classList.toggle("speaking", speaking);
    this._idle.hidden = speaking;
  }

  /** In the order of their numbers, whatever order they come in. */
  _add(line, id = null) {
    let before = null;
    if (id !== null && id !== undefined) {
      this._ids.add(id);
      line.dataset.id = id;
      const later = [...this._log.children].reverse();
      for (const each of later) {
        if (Number(each.dataset.id ?? Infinity) <= id) break;
        if (each.dataset.id) before = each;
      }
    }
    this._log.insertBefore(line, before);
    while (this._log.children.length > LONGEST) this._log.firstChild.remove();
    this._nothing.hidden = true;
    this._follow();
  }

  _isAtEnd() {
    return this._scroll.scrollHeight - this._scroll.scrollTop - this._scroll.clientHeight < NEAR;
  }

  /** Show the newest, unless somebody reads what was before. */
  _follow() {
    if (this._atEnd) this._scroll.scrollTop = this._scroll.scrollHeight;
  }
}

function final(event, began, words) {
  const { endpoint, decode, total } = event.latency;
  const shown = words === null ? "" : `, words ${duration(words)}`;
  const detail = `${duration(endpoint)} of silence waited for, ${duration(decode)} to decode; `
    + `${Math.round(event.confidence * 100)} % sure, by ${rung(event.engine.effective)}`;
  return make("li.final", {},
    make("time", { dateTime: new Date(began * 1000).toISOString() }, clock(began)),
    make("span.text", {}, ...marked(event)),
    make("small", { title: detail }, `${duration(total)}${shown}`));
}

/** The text, words that the engine is not sure of marked. */
function marked(event) {
  const words = event.words ?? [];
  if (words.map(({ word }) => word).join(" ") !== event.text) return [event.text];
  return words.flatMap(({ word, confidence }, index) => {
    const sure = confidence >= UNSURE;
    const shown = sure ? word : make("u.unsure", { title: `${Math.round(confidence * 100)} % sure` }, word);
    return index ? [" ", shown] : [shown];
  });
}
