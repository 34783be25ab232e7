// Asking again and again, while somebody looks.

/**
 * Do `work` now and every so many seconds while the page is seen and `wanted()` says so. Returns a
 * function that does it at once. What fails is tried again the next time.
 */
export function poll(seconds, work, wanted = () => true) {
  let timer = null;
  let running = false;

  async function turn() {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      if (!document.hidden && wanted()) await work();
    } catch (error) {
      console.debug(error);
    } finally {
      running = false;
      timer = setTimeout(turn, seconds * 1000);
    }
  }

  document.addEventListener("visibilitychange", turn);
  turn();
  return turn;
}
