// The microphone of this browser, recognised by the daemon.
import { Captions } from "./captions.js";
import { microphone } from "./edged.js";
import { find, say } from "./element.js";
import { Meter, levelOf } from "./meter.js";
import { token } from "./token.js";

const FAULTS = {
  NotAllowedError: "The browser does not lend this page its microphone. Allow it beside the address, then try again.",
  NotFoundError: "This device has no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};
const button = find("talk-button");
let stream = null;

/** Why this page can have no microphone, or null. */
function obstacle() {
  if (window.isSecureContext && navigator.mediaDevices) return null;
  const port = location.port || 80;
  return "Browsers lend their microphone only to pages of their own machine, or over https. From here, run: "
    + `ssh -L ${port}:127.0.0.1:${port} ${location.hostname}, then open http://localhost:${port}/#talk`;
}

function showState(talking) {
  button.setAttribute("aria-pressed", String(talking));
  button.textContent = talking ? "Stop" : "Start talking";
}

async function talk(captions, meter) {
  const notice = find("talk-notice");
  say(notice, null);
  button.disabled = true;
  try {
    stream = await microphone({ token: token(), words: true, hear: (samples) => meter.take(levelOf(samples)) });
    showState(true);
    captions.rest("Listening …");
    button.disabled = false;
    for await (const event of stream) {
      captions.take(event);
      if (event.type === "error") say(notice, event.message);
      if (event.type === "closed" && event.reason !== "done") say(notice, "edged has ended the stream. Start again when it is back.");
    }
  } catch (error) {
    say(notice, FAULTS[error.name] ?? error.message);
  } finally {
    await stream?.stop();
    stream = null;
    captions.interrupt();
    captions.rest("");
    button.disabled = false;
    showState(false);
  }
}

/** Let the button talk and stop. */
export function start() {
  const captions = new Captions(find("talk-captions"), "What you said", "Press the button and speak: your words appear here.");
  const meter = new Meter(find("talk-meter"), "Level of this browser's microphone");
  const problem = obstacle();
  button.disabled = problem !== null;
  say(find("talk-notice"), problem);
  button.addEventListener("click", () => {
    if (stream) stream.stop();
    else talk(captions, meter);
  });
}
