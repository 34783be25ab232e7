// Which view is shown: the address says it, so that one can be linked to.
import { find } from "./element.js";

const links = [...document.querySelectorAll("nav a")];
const names = links.map((link) => link.hash.slice(1));
const works = new Map();
let current = names[0];

/** Whether a view is the one that is shown. */
export const isShown = (name) => current === name;

/** Do something each time a view is shown. */
export const onShow = (name, work) => works.set(name, work);

function show() {
  const wanted = location.hash.slice(1);
  if (wanted === "main") return; // the way past the menu
  current = names.includes(wanted) ? wanted : names[0];
  for (const [index, link] of links.entries()) {
    const here = isShown(names[index]);
    find(`${names[index]}-view`).hidden = !here;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) document.title = `${link.textContent} · edged`;
  }
  window.scrollTo(0, 0);
  works.get(current)?.();
}

/** Begin with what the address says. */
export function start() {
  addEventListener("hashchange", show);
  show();
}
