// The dashboard: puts its parts together and follows the microphone.
import { Captions } from "./captions.js";
import { call } from "./daemon.js";
import { listen } from "./edged.js";
import { find } from "./element.js";
import * as engine from "./engine.js";
import * as health from "./health.js";
import * as history from "./history.js";
import * as latency from "./latency.js";
import * as machine from "./machine.js";
import * as microphone from "./microphone.js";
import { poll } from "./poll.js";
import * as streams from "./streams.js";
import * as talk from "./talk.js";
import { adopt, token } from "./token.js";
import * as views from "./views.js";

const BEFORE = 50; // finals shown that were said before the page was opened
const AGAIN = 2000; // milliseconds until it is tried to follow again

const RESTS = {
  listening: "Listening …", muted: "Muted", waiting: "Waiting for a microphone", off: "No microphone is listened to", ended: "The recording has ended",
};

const captions = new Captions(find("captions"), "Live captions", "Nothing said yet. What is said appears here.");

/** What was said while nobody looked, with the times at which it was said. */
async function catchUp() {
  const { transcripts } = await call("/v1/transcripts", { order: "newest", stream: "microphone", limit: BEFORE });
  captions.restore(transcripts.reverse());
}

/** Until the connection breaks or the microphone's source ends. */
async function follow() {
  const broken = new AbortController();
  const onstate = (connected) => { if (!connected) broken.abort(); };
  for await (const event of listen({ token: token(), words: true, levels: true, onstate, signal: broken.signal })) {
    if (event.type === "level") microphone.level(event);
    else captions.take(event);
    if (event.type === "hello") await catchUp().catch(console.debug); // where transcripts are kept
    if (event.type === "final" && event.text) news();
    if (event.type === "engine" || event.type === "gap") health.ask();
  }
  captions.interrupt();
  health.ask();
}

/** For ever. That `call` comes first is what asks for a token: a WebSocket cannot say that it wants one. */
async function keepFollowing() {
  while (true) {
    await call("/v1/health").then(follow).catch(console.debug);
    await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
  }
}

let news = () => {};

function start() {
  adopt();
  for (const part of [engine, history, latency, talk]) part.start();
  microphone.start(() => health.ask());
  for (const part of [microphone, engine]) health.onHealth(part.show);
  health.onHealth((report) => captions.rest(report ? RESTS[report.microphone.state] : "Not connected"));
  health.start();

  const live = () => views.isShown("live");
  const glance = poll(10, () => latency.glance(captions.last), live);
  poll(2, streams.refresh, live);
  const ladder = poll(3, engine.refresh, () => views.isShown("engine"));
  const plots = poll(5, latency.refresh, () => views.isShown("latency"));
  const search = () => history.refresh().catch(console.debug);
  news = () => {
    glance();
    if (views.isShown("history") && history.isNewest()) search();
  };
  views.onShow("live", glance);
  views.onShow("engine", ladder);
  views.onShow("latency", plots);
  views.onShow("history", search);
  views.onShow("machine", () => machine.refresh().catch(console.debug));
  views.start();
  keepFollowing();
}

start();
