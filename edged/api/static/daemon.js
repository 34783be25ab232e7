// Calls of the daemon's REST API.
import { EdgedError } from "./edged.js";
import { ask, token } from "./token.js";

/** Nobody answers: the daemon is started anew, or the network is gone. */
export class Away extends Error {}

/** What a call answers, as JSON; `order` is posted. Throws EdgedError where it is refused. */
export async function call(path, query = {}, order = undefined) {
  return (await request(path, query, order)).json();
}

/** What a call answers, as a file. */
export async function file(path, query = {}) {
  return (await request(path, query)).blob();
}

async function request(path, query, order) {
  const url = new URL(path, location.origin);
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(key, value);
  }
  while (true) {
    const given = token();
    const answer = await send(url, given, order);
    if (answer.status === 401) await ask(given);
    else if (isProblem(answer)) throw await refusal(answer);
    else return answer;
  }
}

async function send(url, given, order) {
  const headers = given ? { Authorization: `Bearer ${given}` } : {};
  const options = order === undefined
    ? { headers }
    : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(order) };
  try {
    return await fetch(url, options);
  } catch (error) {
    throw new Away(error.message);
  }
}

// A daemon that cannot recognise yet answers 503, and yet tells how it is.
const isProblem = (answer) => (answer.headers.get("Content-Type") ?? "").startsWith("application/problem");

async function refusal(answer) {
  const problem = await answer.json();
  return new EdgedError(problem.detail, problem.code);
}
