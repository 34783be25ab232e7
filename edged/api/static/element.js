// Elements of the page, without markup in strings: text stays text, whoever said it.

/** The element of the page with an id. */
export const find = (id) => document.getElementById(id);

/**
 * A new element. `what` is its name with classes, "li.final"; `properties` go to the element, those
 * with a dash, `role` and `for` as attributes; children are elements or text, and false is none.
 */
export function make(what, properties = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  fill(made, properties, children);
  return made;
}

/** The same for drawings. */
export function draw(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Put children in place of those that are there. */
export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child || child === 0));
}

/** A paragraph's text; without any it is not shown. */
export function say(element, text) {
  if (element.textContent !== (text ?? "")) element.textContent = text ?? "";
  element.hidden = !text;
}

function fill(made, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  replace(made, children);
}
