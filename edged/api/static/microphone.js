// The daemon's microphone: what it is, how loud it is, and its mute.
import { call } from "./daemon.js";
import { find, say } from "./element.js";
import { Meter } from "./meter.js";

const STATES = {
  listening: ["Listening", "good"],
  muted: ["Muted", "warn"],
  waiting: ["Waiting", "warn"],
  off: ["Off", "quiet"],
  ended: ["Ended", "quiet"],
};
const OFF = "Not listened to. Clients may send audio of their own, and so may you: under Talk.";
const meter = new Meter(find("microphone-meter"), "Level of the microphone");
const button = find("mute");

/** How loud it is. */
export const level = (event) => meter.take(event);

/** As `GET /v1/health` has it; null while nobody answers. */
export function show(health) {
  const microphone = health?.microphone;
  const badge = find("microphone-state");
  button.disabled = !microphone || microphone.state === "off";
  [badge.textContent, badge.dataset.mood] = microphone ? STATES[microphone.state] : ["Unknown", "quiet"];
  if (!microphone) return;
  const label = find("microphone-label");
  say(label, microphone.state === "off" ? OFF : microphone.reason ?? microphone.label ?? microphone.source);
  label.title = microphone.identity ?? "";
  showMute(microphone.muted);
}

function showMute(muted) {
  button.setAttribute("aria-pressed", String(muted));
  button.textContent = muted ? "Unmute" : "Mute";
}

/** Let the button mute; `changed` is called when it has. */
export function start(changed) {
  button.addEventListener("click", async () => {
    const muted = button.getAttribute("aria-pressed") !== "true";
    try {
      const microphone = await call("/v1/microphone", {}, { muted });
      showMute(microphone.muted);
    } catch (error) {
      say(find("microphone-label"), error.message);
    } finally {
      changed();
    }
  });
}
