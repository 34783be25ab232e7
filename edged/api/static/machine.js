// What the last `edged probe` found: hardware, what is in the way of it, and what mends that.
import { call } from "./daemon.js";
import { find, make, replace, say } from "./element.js";
import { bytes, count, span } from "./format.js";

const root = find("machine-parts");

/** Ask for the report, then for the microphones, which takes longer; show both. */
export async function refresh() {
  const inputs = make("div", {}, make("p.soft", {}, "Looking for microphones …"));
  replace(root, ...await found(), card("Microphones", inputs));
  const { devices, error } = await call("/v1/devices");
  replace(inputs, devices.length ? list(devices.map(microphone)) : make("p.soft", {}, error ?? "None is found."));
}

async function found() {
  try {
    const { age_seconds: age, report } = await call("/v1/hardware");
    say(find("machine-sentence"), `${report.sentence} As of ${span(age)} ago.`);
    return [obstacles(report), parts(report), providers(report), notes(report)];
  } catch (error) {
    if (!error.code) throw error;
    say(find("machine-sentence"), null);
    return [make("p.nothing", {}, error.message)];
  }
}

const card = (title, ...children) => make("section.card", {}, make("h3", {}, title), ...children);
const list = (items) => make("ul.plain.lines", {}, ...items);
const badge = (text, mood) => make("span.badge", { "data-mood": mood }, text);

// -- obstacles ------------------------------------------------------------------------------------

function obstacles({ obstacles: all, machine }) {
  if (!all.length) {
    return machine.accelerators.length > 0 && card("In the way", make("p", {}, "Nothing: every accelerator can be used."));
  }
  return card("In the way, in the order in which to mend it", make("ol.plain.remedies", {}, ...all.map(obstacle)));
}

function obstacle({ device, code, sentence, remedy }) {
  return make("li", {},
    make("p", {}, badge(device, "warn"), " ", sentence, " ", make("small.soft", {}, code)),
    make("div.command", {}, make("code", {}, remedy), copier(remedy)));
}

function copier(text) {
  const button = make("button", { type: "button", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);
    button.textContent = "Copied";
  });
  return navigator.clipboard ? button : false; // only pages of this machine or over https have it
}

// -- parts ----------------------------------------------------------------------------------------

function parts({ machine, profile, peaks }) {
  const { cpu, memory, board, power } = machine;
  const facts = [
    ["Board", board.model],
    ["Processor", `${cpu.name}, ${count(cpu.cores, "core")}${cpu.threads === cpu.cores ? "" : `, ${count(cpu.threads, "thread")}`}`],
    ["It can", cpu.features.join(", ") || "no vector arithmetic that helps"],
    ["Memory", bytes(memory.limit_bytes ?? memory.total_bytes)],
    ["Accelerators", machine.accelerators.map(accelerator).join("; ") || "none"],
    ["Power", power.source === "unknown" ? null : `${power.source}${power.battery_percent === null ? "" : `, ${power.battery_percent} %`}`],
    ["System", `Linux ${machine.kernel}, ${machine.architecture}`],
    ["Profile", `${profile.name}: ${profile.reason}`],
    ["Measured peaks", peaks && `${peaks.measured_gigaflops.toFixed(0)} GFLOP/s in float32, ${peaks.measured_gigabytes_per_second.toFixed(0)} GB/s of memory`],
  ];
  const known = facts.filter(([, value]) => value);
  return card("Hardware", make("dl.facts", {}, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}

const accelerator = ({ name, id, driver }) => `${name} (${id}, driver: ${driver ?? "none"})`;

// -- providers ------------------------------------------------------------------------------------

const providers = ({ providers: all }) => all.length > 0 && card("Providers", list(all.map(provider)));

function provider({ name, version, devices, error, conflict }) {
  const trouble = error ?? conflict;
  return make("li", {},
    badge(trouble ? "Unusable" : devices.length ? "Usable" : "No device", trouble ? "bad" : devices.length ? "good" : "quiet"), " ",
    make("span.strong", {}, name), " ",
    make("span.soft", {}, [version, devices.join(", ")].filter(Boolean).join(", on ")),
    trouble && make("p.why", {}, trouble));
}

const notes = ({ notes: all }) => all.length > 0 && card("Left out", list(all.map((note) => make("li", {}, note))));

// -- microphones ----------------------------------------------------------------------------------

function microphone({ label, identity, channels, rate, default: usual, in_use: used }) {
  return make("li", {},
    make("span.strong", {}, label), " ",
    used && badge("In use", "good"), usual && badge("Default", "quiet"),
    make("div.soft", {}, make("code", {}, identity), `, ${count(channels, "channel")}, ${rate / 1000} kHz`));
}
