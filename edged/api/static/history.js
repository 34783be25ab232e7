// What was said: search it, read it, take it along.
import { call, file } from "./daemon.js";
import { find, make, replace, say } from "./element.js";
import { clock, count, day, duration } from "./format.js";

const PAGE = 50;
const FORMS = { txt: "Text", srt: "SRT", vtt: "VTT", json: "JSON" };
const PAUSE = 250; // milliseconds after the last key before it is searched
const list = find("found");
let cursor = null; // where older ones begin
let shown = 0;
let searches = 0; // so that an answer which comes late does not go over a newer one

const wanted = () => ({ q: find("search").value.trim(), stream: find("search-stream").value });

/** Whether what is shown begins with the newest, and nobody has gone on from there. */
export const isNewest = () => shown <= PAGE && !wanted().q;

/** Search anew. */
export async function refresh() {
  const number = ++searches;
  const found = await page(null);
  if (number !== searches) return;
  replace(list);
  shown = 0;
  add(found);
}

async function page(from) {
  try {
    return await call("/v1/transcripts", { ...wanted(), order: "newest", limit: PAGE, cursor: from });
  } catch (error) {
    if (!error.code) throw error;
    return { transcripts: [], cursor: null, problem: error.message };
  }
}

function add({ transcripts, cursor: next, problem }) {
  cursor = next;
  shown += transcripts.length;
  find("more").hidden = next === null;
  for (const button of find("downloads").children) button.disabled = shown === 0;
  for (const transcript of transcripts) dayOf(transcript.time).append(item(transcript));
  if (shown === 0) replace(list, nothing(problem));
  say(find("history-count"), shown ? count(shown, "utterance") + (next === null ? "" : ", and older ones") : null);
}

function nothing(problem) {
  const { q, stream } = wanted();
  if (problem) return make("p.nothing", {}, problem);
  if (q) return make("p.nothing", {}, `Nothing found for “${q}”. Whole words are searched for, all of them.`);
  return make("p.nothing", {}, stream ? "The microphone has heard nothing yet." : "Nothing was said yet. What is said is kept here.");
}

/** The list of a day's transcripts, newest first. */
function dayOf(time) {
  const name = day(time);
  const last = list.lastElementChild;
  if (last?.dataset.day === name) return last.querySelector("ol");
  const lines = make("ol.lines");
  list.append(make("section", { "data-day": name }, make("h3", {}, name), lines));
  return lines;
}

function item({ time, stream, text, event }) {
  return make("li", {},
    make("time", { dateTime: new Date(time * 1000).toISOString() }, clock(time)),
    make("span.text", {}, ...marked(text, wanted().q)),
    make("small", {}, `${stream}, ${duration(event.end - event.start)}`));
}

/** The text with the words that were searched for marked. */
function marked(text, query) {
  const words = query.toLowerCase().split(/\s+/).map(bare).filter(Boolean);
  if (!words.length) return [text];
  return text.split(/(\s+)/).map((part) => (words.includes(bare(part.toLowerCase())) ? make("mark", {}, part) : part));
}

const bare = (word) => word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");

async function download(form) {
  const address = URL.createObjectURL(await file("/v1/transcripts/download", { ...wanted(), format: form }));
  make("a", { href: address, download: `transcripts.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const complain = (error) => say(find("history-count"), error.message);

/** Let the search and the buttons work. */
export function start() {
  let timer = null;
  find("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => refresh().catch(complain), PAUSE);
  });
  find("search-stream").addEventListener("change", () => refresh().catch(complain));
  find("more").addEventListener("click", () => page(cursor).then(add).catch(complain));
  replace(find("downloads"), ...Object.entries(FORMS).map(([form, name]) => make("button", {
    type: "button", "aria-label": `Download as ${name}`, onclick: () => download(form).catch(complain),
  }, name)));
}
