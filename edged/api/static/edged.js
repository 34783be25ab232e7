// A client of edged for browsers, in one file without dependencies:
//
//   import { listen, Stream } from "http://127.0.0.1:7333/edged.js";
//   for await (const event of listen()) if (event.type === "final") console.log(event.text);
//
// Pages of other origins must be named in server.allowed_origins. Events: docs/api.md.

const FIRST_WAIT = 200, LONGEST_WAIT = 5000; // milliseconds between tries to connect
const PAGE = 1000; // finals asked for at once
const PASSING = new Set(["too_many_clients", "engine_not_ready"]); // is over by itself
const SLOW = 1 << 20; // bytes that may wait in a socket before `send` makes one wait

const here = () => new URL(import.meta.url).origin;

/** What the daemon refuses, with its code. */
export class EdgedError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

function address(base, path, query, token) {
  const url = new URL(path, base);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(Number(value)));
  if (token) url.searchParams.set("access_token", token); // a browser's WebSocket sends no headers
  return url;
}

function asWebSocket(url) {
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

/** The messages of a WebSocket, in order; ends when it is closed, whatever the reason. */
function messages(socket, signal) {
  const queue = [];
  let wake = () => {};
  let over = false;
  const end = () => { over = true; wake(); };
  socket.addEventListener("message", (message) => { queue.push(JSON.parse(message.data)); wake(); });
  socket.addEventListener("close", end);
  socket.addEventListener("error", end);
  signal?.addEventListener("abort", end);
  return (async function* () {
    try {
      while (!signal?.aborted) {
        if (queue.length) yield queue.shift();
        else if (over) return;
        else await new Promise((resolve) => { wake = resolve; });
      }
    } finally {
      signal?.removeEventListener("abort", end);
      socket.close();
    }
  })();
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/** The microphone's finals since a number, as they are stored. */
async function* finals(base, after, token, signal) {
  let cursor = String(after);
  while (cursor !== null) {
    const url = address(base, "/v1/transcripts", { limit: PAGE, cursor }, token);
    const answer = await fetch(url, { signal });
    if (!answer.ok) throw new Error(`edged refuses (${answer.status})`);
    const page = await answer.json();
    for (const stored of page.transcripts) if (stored.stream === "microphone") yield stored.event;
    cursor = page.cursor;
  }
}

/**
 * What the microphone hears, as it comes, until its source ends or `signal` is aborted.
 *
 * Connects again when the connection breaks or the daemon is started anew; no final is lost or
 * comes twice by that. `after`, the number of a final, begins with those since. With `levels` come
 * events that tell how loud it is. While nothing is connected, `onstate` is told false.
 */
export async function* listen({
  url = here(), token, partials = true, words = false, levels = false, after = null, signal,
  onstate = () => {},
} = {}) {
  let last = after;
  let wait = FIRST_WAIT;
  while (!signal?.aborted) {
    const path = address(url, "/v1/transcripts", { partials, words, levels }, token);
    try {
      for await (const event of messages(new WebSocket(asWebSocket(path)), signal)) {
        if (event.type === "final" && event.id != null) {
          if (last !== null && event.id <= last) continue;
          last = event.id;
        }
        if (event.type === "error" && event.fatal && !PASSING.has(event.code)) {
          throw new EdgedError(event.message, event.code);
        }
        yield event;
        if (event.type === "closed" && event.reason === "source_ended") return;
        if (event.type !== "hello") continue;
        wait = FIRST_WAIT;
        onstate(true);
        const missed = last;
        last ??= event.last ?? null;
        if (missed === null || event.last == null || event.last <= missed) continue;
        for await (const final of finals(url, missed, token, signal)) {
          last = final.id;
          if (!words) delete final.words;
          yield final;
        }
      }
    } catch (error) {
      if (error instanceof EdgedError) throw error;
    }
    if (signal?.aborted) return;
    onstate(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

/** Audio of one's own: `send` it, and iterate over what is said in it. */
export class Stream {
  /** `rate` in hertz; `encoding` s16le, f32le, mulaw or alaw. */
  constructor({
    url = here(), token, rate = 16000, encoding = "f32le", channels = 1, partials = true, words = false,
  } = {}) {
    const path = address(url, "/v1/stream", { rate, channels, partials, words }, token);
    path.searchParams.set("encoding", encoding);
    this._socket = new WebSocket(asWebSocket(path));
    this._events = messages(this._socket);
    this._opened = new Promise((resolve, reject) => {
      this._socket.addEventListener("open", resolve);
      this._socket.addEventListener("close", () => reject(new Error("edged is not reached")));
    });
    this._opened.catch(() => {}); // whoever sends or reads learns of it
  }

  /** Send samples: a typed array or an ArrayBuffer. Resolves when more may be sent. */
  async send(samples) {
    await this._opened;
    this._socket.send(samples);
    while (this._socket.bufferedAmount > SLOW) await pause(20);
  }

  /** Finish the open utterance now. */
  async flush() {
    await this._opened;
    this._socket.send('{"type":"flush"}');
  }

  /** Finish: the last finals come, then `closed`. */
  async close() {
    await this._opened;
    this._socket.send('{"type":"close"}');
  }

  [Symbol.asyncIterator]() {
    return this._events;
  }
}

/**
 * This page's microphone as a Stream. `stop()` lets it go and finishes; `hear` is given each block
 * of samples before it is sent. In pages that were not fetched over https or from this machine,
 * browsers have no microphone.
 */
export async function microphone({ hear = () => {}, ...options } = {}) {
  const media = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule(import.meta.url);
  const stream = new Stream({ ...options, rate: context.sampleRate, encoding: "f32le" });
  const node = new AudioWorkletNode(context, "edged", { numberOfOutputs: 0, channelCount: 1 });
  node.port.onmessage = (message) => {
    hear(new Float32Array(message.data));
    stream.send(message.data).catch(() => stream.stop());
  };
  context.createMediaStreamSource(media).connect(node);
  stream.stop = async () => {
    for (const track of media.getTracks()) track.stop();
    if (context.state !== "closed") await context.close();
    await stream.close().catch(() => {});
  };
  return stream;
}

// The same file is the worklet's: there it hands on what it hears, 20 ms or so at once.
if (typeof registerProcessor === "function") {
  registerProcessor("edged", class extends AudioWorkletProcessor {
    constructor() {
      super();
      this._block = new Float32Array(1024);
      this._filled = 0;
    }

    process([[samples]]) {
      if (!samples) return true;
      this._block.set(samples, this._filled);
      this._filled += samples.length;
      if (this._filled >= this._block.length) {
        this.port.postMessage(this._block.buffer, [this._block.buffer]);
        this._block = new Float32Array(1024);
        this._filled = 0;
      }
      return true;
    }
  });
}
