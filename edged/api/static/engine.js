// The engine as it is, and the ladder: what else may serve, with its proof.
import { call } from "./daemon.js";
import { find, make, replace, say } from "./element.js";
import { bytes, count, duration, percent, place, rung, span } from "./format.js";

// -- at a glance ----------------------------------------------------------------------------------

/** As `GET /v1/health` has it; null while nobody answers. */
export function show(health) {
  if (!health) return;
  const { effective, requested, reason } = health.engine;
  const badge = find("engine-badge");
  [badge.textContent, badge.dataset.mood] = verdict(health);
  find("engine-name").textContent = effective ? effective.model : "None yet";
  say(find("engine-place"), effective ? place(effective) : requested && `Asked for: ${rung(requested)}`);
  say(find("engine-why"), reason);
}

function verdict({ ready, engine, reasons }) {
  if (!ready) return ["Not ready", "bad"];
  if (reasons.some((each) => each.startsWith("engine:"))) return ["Degraded", "warn"];
  return engine.reason ? ["Serving", "good"] : ["As asked for", "good"];
}

// -- the ladder -----------------------------------------------------------------------------------

/** Ask for the ladder and what was proven, and show both. */
export async function refresh() {
  const [ladder, proofs] = await Promise.all([call("/v1/engine"), verdicts()]);
  showFacts(ladder);
  find("release").hidden = !ladder.pinned;
  const focused = document.activeElement?.dataset.step;
  replace(find("ladder"), ...ladder.steps.map((step, index) => (
    item(step, index, proofs.get(rung(step.rung)), ladder.pinned)
  )));
  if (focused) find("ladder").querySelector(`[data-step="${focused}"]`)?.focus();
}

async function verdicts() {
  try {
    const { report } = await call("/v1/hardware");
    return new Map(report.verdicts.map((each) => [rung(each.rung), each]));
  } catch (error) {
    if (error.code === "not_probed") return new Map();
    throw error;
  }
}

function showFacts({ engine, pinned, fallback, moves, workers, lag, p95 }) {
  const facts = [
    ["Asked for", engine.requested ? rung(engine.requested) : "nothing yet"],
    ["Runs", engine.effective ? rung(engine.effective) : "nothing yet"],
    ["Why", engine.reason ?? "It is what was asked for, and it keeps up."],
    ["Chosen by", pinned ? "you: it is held on one step" : "edged, by load, heat, power and faults"],
    ["If less must serve", { fail: "it refuses", degrade: "it does, and says so everywhere", allow: "it does" }[fallback]],
    ["So far", `${count(moves, "move")}, ${count(workers, "worker")} started`],
    ["Behind live audio by", duration(lag)],
    ["Endpoint to text", p95 !== null && `95 % of late within ${duration(p95)}`],
  ];
  const known = facts.filter(([, text]) => text);
  replace(find("engine-facts"), ...known.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}

function item(step, index, proof, pinned) {
  const held = pinned && step.serving;
  return make(`li.card${step.serving ? ".serving" : ""}`, {},
    make("div.title", {},
      make("strong", {}, step.rung.model), " ",
      make("span.soft", {}, place(step.rung) + (step.pace > 1 ? ", partials less often" : "")),
      make("span.badges", {}, ...badges(step, held))),
    proven(proof),
    step.reason && make("p.why", {}, `${step.reason}${wait(step)}`),
    make("button", {
      type: "button", disabled: held, onclick: () => order({ action: "pin", step: index }),
      "data-step": index, "aria-label": `Hold the engine on ${rung(step.rung)}${step.pace > 1 ? ", partials less often" : ""}`,
    }, held ? "Held" : "Hold here"));
}

const wait = ({ waits, failures }) => [
  failures > 0 ? ` (${count(failures, "time")})` : "",
  waits > 0 ? `; may be tried again in ${span(waits)}` : "",
].join("");

const badge = (text, mood) => make("span.badge", { "data-mood": mood }, text);

function badges({ serving, asked_for: asked }, held) {
  return [serving && badge("Serving", "good"), held && badge("Held", "warn"), asked && badge("Asked for", "quiet")];
}

function proven(proof) {
  if (!proof) return make("div.proof", {}, badge("Not proven", "quiet"), make("span.soft", {}, "It was not tried here yet. Run: ", make("code", {}, "edged probe")));
  const [text, mood] = proof.ok ? (proof.code ? ["Proven in part", "warn"] : ["Proven", "good"]) : ["Refused", "bad"];
  return make("div.proof", {},
    badge(text, mood),
    make("dl.figures", {}, ...figures(proof).flatMap(([name, value]) => (
      make("div", {}, make("dt", {}, name), make("dd", {}, value))
    ))),
    proof.reason && make("p.why", {}, proof.reason));
}

/** What was measured, and nothing else. */
function figures(proof) {
  const errors = proof.gate_error_rate ?? proof.word_error_rate;
  const all = [
    ["Words unlike float32's", errors, percent],
    ["Partial, p50", proof.warm_p50_seconds, duration],
    ["p99", proof.warm_p99_seconds, duration],
    ["Times real time", proof.real_time_factor, (factor) => (1 / factor).toFixed(0)],
    ["Memory", proof.peak_memory_bytes, bytes],
    ["Load", proof.load_seconds, duration],
    ["Tried", Date.now() / 1000 - proof.time, (seconds) => `${span(seconds)} ago`],
  ];
  return all.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value, write]) => [name, write(value)]);
}

async function order(wanted) {
  const notice = find("engine-notice");
  try {
    await call("/v1/engine", {}, wanted);
    say(notice, null);
    await refresh();
  } catch (error) {
    say(notice, error.message);
  }
}

/** Let the buttons work. */
export const start = () => find("release").addEventListener("click", () => order({ action: "release" }));
