// How the daemon is, asked again and again, and told to the parts of the page.
import { Away, call } from "./daemon.js";
import { find, make, replace } from "./element.js";
import { poll } from "./poll.js";

const SECONDS = 2;
const listeners = new Set();

/** Be told of every answer of `GET /v1/health`, and null while there is none. */
export const onHealth = (listener) => listeners.add(listener);

/** Ask at once: something has happened. */
export let ask = () => {};

/** Begin to ask. */
export function start() {
  ask = poll(SECONDS, async () => {
    try {
      tell(await call("/v1/health"));
    } catch (error) {
      if (error instanceof Away) tell(null);
      else throw error;
    }
  });
}

function tell(health) {
  showStatus(health);
  showNotices(health);
  for (const listener of listeners) listener(health);
}

function showStatus(health) {
  const [text, mood] = status(health);
  const pill = find("status");
  if (pill.textContent !== text) pill.textContent = text;
  pill.dataset.mood = mood;
  document.body.classList.toggle("away", health === null);
}

/** In a word or two, the worst first. */
function status(health) {
  if (!health) return ["Not reached", "bad"];
  if (!health.ready) return ["Engine not ready", "bad"];
  if (health.microphone.state === "waiting") return ["No microphone", "warn"];
  if (health.reasons.length) return ["Degraded", "warn"];
  const names = { listening: "Listening", muted: "Muted", off: "Ready", ended: "Recording ended" };
  const moods = { listening: "good", muted: "warn" };
  return [names[health.microphone.state] ?? "Ready", moods[health.microphone.state] ?? "quiet"];
}

function showNotices(health) {
  const texts = health ? health.reasons.map(sentence) : ["edged does not answer. The page goes on by itself when it is back."];
  const list = find("notices");
  if (texts.join() === [...list.children].map((item) => item.textContent).join()) return;
  replace(list, ...texts.map((text) => make("li", {}, text)));
}

/** A reason as a sentence; what it is about stays before it where it is none by itself. */
function sentence(reason) {
  const [, rest] = reason.match(/^\w+: (\p{Lu}.*)$/u) ?? [];
  return rest ?? reason.charAt(0).toUpperCase() + reason.slice(1);
}
