// How long texts take: at a glance, and over time.
import { call } from "./daemon.js";
import { find, make, replace } from "./element.js";
import { duration } from "./format.js";
import { Plot } from "./plot.js";

const STAGES = {
  total: ["End of speech to final", "All of the wait: the silence, then the decode."],
  first_partial: ["First words", "From the beginning of speech to the first text shown."],
  endpoint: ["Silence waited for", "Until it is clear that the utterance is over."],
  decode: ["Decode", "From then to the final."],
};
const RANGES = { "10 min": 600, "1 h": 3600, "6 h": 21600 };
const PARTS = 60;
const plots = new Map();
let seconds = RANGES["10 min"];

/** Figures at a glance; `last` is the last final's latency, where one was seen. */
export async function glance(last) {
  const { stages } = await call("/v1/latencies", { seconds: 3600, parts: 1 });
  const [hour] = stages.find(({ stage }) => stage === "total").spans;
  const figures = [
    ["Last final", last?.total], ["Its words", last?.words], ["p50, last hour", hour?.p50], ["p99", hour?.p99],
  ];
  replace(find("latency-figures"), ...figures.map(([name, value]) => (
    make("div", {}, make("dt", {}, name), make("dd", {}, duration(value)))
  )));
}

/** Ask for what was measured, and draw it. */
export async function refresh() {
  const { stages } = await call("/v1/latencies", { seconds, parts: PARTS });
  for (const { stage, spans } of stages) plots.get(stage)?.show(spans, seconds);
}

/** Make the drawings, and buttons for how far back they go. */
export function start() {
  for (const [stage, [title, about]] of Object.entries(STAGES)) plots.set(stage, new Plot(title, about));
  replace(find("plots"), ...[...plots.values()].map(({ element }) => element));
  replace(find("ranges"), ...Object.entries(RANGES).map(([name, length]) => make("button", {
    type: "button", "aria-pressed": String(length === seconds),
    onclick: (event) => { choose(event.target, length); },
  }, name)));
}

function choose(button, length) {
  seconds = length;
  for (const each of find("ranges").children) each.setAttribute("aria-pressed", String(each === button));
  refresh().catch(console.debug);
}
