// What a page can try on a server that is not its own; `page.run("(" + this + ")(targets)")`.
//
// targets: {calls: [[method, url]], sockets: [url], ports: [url]}. Returns what came of each try:
// what the page got to see, or how it was refused.
async ({ calls, sockets, ports }) => {
  const outcomes = {};
  const patience = 5000;
  const within = (promise, otherwise) =>
    Promise.race([promise, new Promise((done) => setTimeout(done, patience, otherwise))]);

  const attempt = async (name, action) => {
    try {
      outcomes[name] = await within(action(), "nothing");
    } catch (error) {
      outcomes[name] = error.name;
    }
  };

  const read = async (response) => {
    if (response.type === "opaque") return "opaque";
    const { value } = await response.body.getReader().read();
    return `${response.status} ${new TextDecoder().decode(value)}`;
  };

  const embed = (tag, properties) =>
    new Promise((done) => {
      const element = document.createElement(tag);
      element.onload = element.onloadedmetadata = () => done("loaded");
      element.onerror = () => done("error");
      Object.assign(element, properties);
      document.documentElement.append(element);
    });

  const frame = async (open) => {
    const element = document.createElement("iframe");
    element.name = `frame${document.querySelectorAll("iframe").length}`;
    document.documentElement.append(element);
    const loaded = new Promise((done) => (element.onload = done));
    open(element);
    await within(loaded);
    const inside = element.contentDocument; // null where it is of another origin
    return inside ? inside.documentElement.innerText : "unreadable";
  };

  // A form without a script's help: `text/plain` of name=value, which can be JSON.
  const post = (url, kind, body) =>
    frame((element) => {
      const form = document.createElement("form");
      Object.assign(form, { action: url, method: "POST", enctype: kind, target: element.name });
      const field = document.createElement("input");
      const middle = body.indexOf("=");
      Object.assign(field, { name: body.slice(0, middle), value: body.slice(middle + 1) });
      form.append(field);
      document.documentElement.append(form);
      form.submit();
    });

  const events = (url) =>
    new Promise((done) => {
      const source = new EventSource(url);
      source.addEventListener("hello", (event) => (source.close(), done(event.data)));
      source.onopen = () => done("open");
      source.onerror = () => (source.close(), done("error"));
    });

  const talk = (url, protocols) =>
    new Promise((done) => {
      const socket = new WebSocket(url, protocols);
      socket.onopen = () => {
        socket.send(new Uint8Array(32000));
        done("open");
      };
      socket.onclose = (event) => done(`closed ${event.code}`);
    });

  const MUTE = '{"muted": true, "x": "="}';
  const tries = [];
  const plan = (name, action) => tries.push(attempt(name, action));
  for (const [method, url] of calls) {
    const options = { method };
    if (method === "POST") options.body = MUTE;
    const json = { "Content-Type": "application/json", "X-Other": "1" };
    plan(`fetch ${method} ${url}`, async () => read(await fetch(url, options)));
    plan(`fetch ${method} ${url} no-cors`, async () =>
      read(await fetch(url, { ...options, mode: "no-cors", credentials: "include" })),
    );
    plan(`fetch ${method} ${url} with headers`, async () =>
      read(await fetch(url, { ...options, headers: json })),
    );
    if (method === "GET") {
      plan(`events ${url}`, () => events(url));
      plan(`script ${url}`, () => embed("script", { src: url }));
      plan(`module ${url}`, () => embed("script", { type: "module", src: url }));
      plan(`style ${url}`, () => embed("link", { rel: "stylesheet", href: url }));
      plan(`image ${url}`, () => embed("img", { src: url }));
      plan(`audio ${url}`, () => embed("audio", { src: url, preload: "metadata" }));
      plan(`frame ${url}`, () => frame((element) => (element.src = url)));
    } else {
      plan(`form ${url} plain`, () => post(url, "text/plain", MUTE));
      plan(`form ${url} multipart`, () => post(url, "multipart/form-data", "file=x"));
      plan(`beacon ${url}`, async () => {
        navigator.sendBeacon(url, new Blob([MUTE], { type: "text/plain" }));
        return "sent";
      });
    }
    await Promise.all(tries.splice(0));
  }
  for (const url of sockets) {
    plan(`socket ${url}`, () => talk(url));
    plan(`socket ${url} realtime`, () => talk(url, ["realtime", "openai-insecure-api-key.x"]));
  }
  for (const url of ports) {
    const line = '\r\n{"type": "audio-start", "data": {"rate": 16000, "x": "="}}\r\n';
    plan(`fetch ${url}`, async () => read(await fetch(url)));
    plan(`fetch ${url} line`, async () =>
      read(await fetch(url, { method: "POST", body: line, mode: "no-cors" })),
    );
    plan(`form ${url} line`, () => post(url, "text/plain", line));
    plan(`socket ${url}`, () => talk(url.replace("http", "ws")));
  }
  await Promise.all(tries);
  return outcomes;
}
