// A drawing of two lines over time: p50 and p99 of one stage.
import { draw, make, replace } from "./element.js";
import { duration, span } from "./format.js";

const HEIGHT = 170;
const LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 24; // pixels about the drawing, for its numbers
const TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]; // seconds from line to line
const LINES = 4; // at most

/** Draws `spans` as `GET /v1/latencies` has them: oldest first, `age` in seconds. */
export class Plot {
  constructor(title, about) {
    this._drawing = draw("svg", { role: "img", "aria-label": title, height: HEIGHT });
    this._now = make("p.now");
    this._table = make("tbody");
    this.element = make("figure.card.plot", {},
      make("figcaption", {}, make("h3", {}, title), make("p.soft", {}, about), this._now),
      this._drawing,
      make("details", {}, make("summary", {}, "The numbers"), table(title, this._table)));
    this._title = title;
    new ResizeObserver(() => this._spans && this._draw()).observe(this.element);
  }

  /** `seconds` is how far back the drawing goes. */
  show(spans, seconds) {
    [this._spans, this._seconds] = [spans, seconds];
    this._draw();
    const last = spans.at(-1);
    replace(this._now, ...(last
      ? [make("strong.p50", {}, duration(last.p50)), " ", make("span.p99", {}, duration(last.p99))]
      : [make("span.soft", {}, "Nothing was said")]));
    replace(this._table, ...[...spans].reverse().map(row));
  }

  _draw() {
    const width = Math.max(160, this._drawing.clientWidth || this.element.clientWidth - 32);
    const step = tick(Math.max(0, ...this._spans.map(({ p99 }) => p99)));
    const top = step * LINES;
    const x = (age) => LEFT + (1 - age / this._seconds) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - Math.min(1, value / top)) * (HEIGHT - TOP - BOTTOM);
    this._drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this._drawing.setAttribute("aria-label", this._inWords());
    const places = (name) => this._spans.map((each) => [x(each.age), y(each[name])]);
    replace(this._drawing,
      ...grid(step, y, width), ...times(this._seconds, x),
      draw("path", { class: "between", d: area(places("p50"), places("p99")) }),
      ...["p99", "p50"].flatMap((name) => line(name, places(name))));
  }

  _inWords() {
    const last = this._spans.at(-1);
    return last
      ? `${this._title}: at last p50 ${duration(last.p50)}, p99 ${duration(last.p99)}`
      : `${this._title}: nothing was said`;
  }
}

function table(title, body) {
  const heading = (text) => make("th", { scope: "col" }, text);
  return make("div.scroll", { tabIndex: 0, role: "region", "aria-label": `Numbers: ${title}` },
    make("table", {}, make("thead", {}, make("tr", {}, ...["When", "p50", "p99", "Finals"].map(heading))), body));
}

function row({ age, p50, p99, count }) {
  return make("tr", {}, ...[`${span(age)} ago`, duration(p50), duration(p99), count].map((text) => make("td", {}, text)));
}

const tick = (highest) => TICKS.find((each) => each * LINES >= highest) ?? Math.ceil(highest / LINES);

function grid(step, y, width) {
  return Array.from({ length: LINES + 1 }, (_, index) => index * step).flatMap((value) => [
    draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    draw("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, value ? axis(value) : "0"),
  ]);
}

const axis = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${Number(seconds.toFixed(1))} s`);

function times(seconds, x) {
  return [[seconds, "start"], [seconds / 2, "middle"], [0, "end"]].map(([age, anchor]) => (
    draw("text", { x: x(age), y: HEIGHT - 6, "text-anchor": anchor }, age ? `${span(age)} ago` : "now")
  ));
}

const path = (places) => places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" L");

const area = (low, high) => (low.length > 1 ? `M${path(low)} L${path([...high].reverse())} Z` : "");

function line(name, places) {
  const dots = places.map(([x, y]) => draw("circle", { class: name, cx: x.toFixed(1), cy: y.toFixed(1), r: 2.5 }));
  return places.length > 1 ? [draw("path", { class: name, d: `M${path(places)}` }), ...dots] : dots;
}
