// Whose audio is being recognised.
import { call } from "./daemon.js";
import { find, make, replace } from "./element.js";
import { span } from "./format.js";

const PROTOCOLS = {
  edged: "WebSocket", openai: "OpenAI", vosk: "Vosk", sherpa: "sherpa-onnx", wyoming: "Wyoming",
};

/** Ask for the streams, and list them. */
export async function refresh() {
  const { streams, most } = await call("/v1/streams");
  const clients = streams.filter(({ protocol }) => protocol !== "microphone").length;
  find("streams-count").textContent = `${clients} of ${most} places taken`;
  replace(find("streams"), ...(streams.length ? streams.map(item) : [make("li.soft", {}, "Nobody sends audio.")]));
}

function item({ name, protocol, audio, speaking }) {
  return make("li", {},
    make(`i.dot${speaking ? ".speaking" : ""}`, { "aria-hidden": "true" }),
    make("span.strong", {}, name), " ",
    make("span.soft", {}, [PROTOCOLS[protocol], span(audio), speaking && "speaking"].filter(Boolean).join(", ")));
}
