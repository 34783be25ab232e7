// Live captions: follows the microphone and rewrites the open utterance in place.
import { listen } from "./edged.js";

const element = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("access_token");
const authorised = (path) =>
  token ? `${path}?access_token=${encodeURIComponent(token)}` : path;
const longest = 200;
let muted = false;

function line(kind, clock, text, note) {
  const item = document.createElement("li");
  item.className = kind;
  const time = document.createElement("time");
  time.textContent = clock;
  const words = document.createElement("span");
  words.textContent = text;
  const small = document.createElement("small");
  small.textContent = note;
  item.append(time, words, small);
  const finals = element("finals");
  finals.append(item);
  while (finals.children.length > longest) finals.firstChild.remove();
  item.scrollIntoView({ block: "nearest" });
}

function show(stable, unstable) {
  element("stable").textContent = stable;
  element("unstable").textContent = unstable;
}

function showMute(now) {
  muted = now;
  element("mute").setAttribute("aria-pressed", String(now));
  element("mute").textContent = now ? "Unmute" : "Mute";
}

function showEngine(rung, reason) {
  const name = rung ? `${rung.model} ${rung.precision} on ${rung.provider} ${rung.device}` : "no engine yet";
  element("engine").textContent = reason ? `${name} (${reason})` : name;
}

const now = () => new Date().toLocaleTimeString();

const handlers = {
  hello: (event) => {
    showEngine(event.engine.effective, event.engine.reason);
    showMute(event.muted);
    refresh();
  },
  partial: (event) => show(event.stable, event.text.slice(event.stable.length)),
  final: (event) => {
    show("", "");
    if (event.text) line("final", now(), event.text, `${event.latency.total.toFixed(2)} s`);
  },
  gap: (event) => line("gap", now(), `${(event.end - event.start).toFixed(1)} s not heard: ${event.reason}`, ""),
  engine: (event) => showEngine(event.to, event.reason),
  error: (event) => { element("notice").textContent = event.message; },
};

async function refresh() {
  const answer = await fetch(authorised("/v1/health"));
  const health = await answer.json();
  if (health.engine) showEngine(health.engine.effective, health.engine.reason);
  element("notice").textContent = (health.reasons ?? []).join(". ");
}

async function follow() {
  const onstate = (connected) => {
    if (!connected) element("engine").textContent = "connection lost, trying again";
  };
  for await (const event of listen({ token, onstate })) handlers[event.type]?.(event);
  element("engine").textContent = "the recording has ended";
}

element("mute").onclick = async () => {
  const answer = await fetch(authorised("/v1/microphone"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ muted: !muted }),
  });
  if (answer.ok) showMute((await answer.json()).muted);
};
setInterval(() => refresh().catch(() => {}), 5000);
follow().catch((error) => { element("notice").textContent = error.message; });
