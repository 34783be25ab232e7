// Figures and names as people read them.

/** Seconds, short: 38 ms, 1.24 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 0.1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`;
}

/** A longer time: 40 s, 5 min, 3 h, 2 days. */
export function span(seconds) {
  for (const [length, unit] of [[86400, "days"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
  }
  return `${Math.round(Math.max(0, seconds))} s`;
}

/** A share: 8.9 %. */
export const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

/** Bytes: 197 MB, 2.4 GB. */
export const bytes = (count) => (
  count < 1e9 ? `${Math.round(count / 1e6)} MB` : `${(count / 1e9).toFixed(1)} GB`
);

/** The time of day; `time` is Unix time in seconds. */
export const clock = (time) => new Date(time * 1000).toLocaleTimeString([], {
  hour: "2-digit", minute: "2-digit", second: "2-digit",
});

/** The day, by name where it is near. */
export function day(time) {
  const date = new Date(time * 1000);
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 864e5);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return date.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

/** One or many: 1 stream, 3 streams. */
export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** A rung in one line. */
export const rung = (each) => (
  each ? `${each.model} ${each.precision} on ${each.provider} ${each.device}` : "none"
);

/** Where a rung runs, beside its model. */
export const place = (each) => `${each.precision} · ${each.provider} · ${each.device}`;
