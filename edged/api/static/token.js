// The token that a daemon off loopback wants: asked for once, kept by this tab.
import { find } from "./element.js";

const KEY = "edged.token";
let asking = null;

/** What is known, or null. */
export const token = () => sessionStorage.getItem(KEY);

/** Take the token from the page's address, where it is not to stay: it would go into bookmarks. */
export function adopt() {
  const address = new URL(location.href);
  const given = address.searchParams.get("access_token");
  if (!given) return;
  sessionStorage.setItem(KEY, given);
  address.searchParams.delete("access_token");
  history.replaceState(null, "", address);
}

/** Ask for it, because `refused` (a token or null) was not the right one. One dialog for all. */
export function ask(refused) {
  if (token() !== refused) return Promise.resolve(); // another one was given meanwhile
  asking ??= answer(refused).finally(() => { asking = null; });
  return asking;
}

function answer(refused) {
  const dialog = find("token");
  const value = find("token-value");
  find("token-wrong").hidden = refused === null;
  value.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (value.value.trim()) sessionStorage.setItem(KEY, value.value.trim());
      resolve();
    }, { once: true });
  });
}
