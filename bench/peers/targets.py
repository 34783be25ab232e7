"""What edged set out to reach beside the peers, what it reached, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.peers.streams import BOUND_SECONDS, kept
from bench.peers.systems import ALONE, OURS

Row = dict[str, Any]
FINALS_EACH = 1.2
"""More finals an utterance than this are cut sentences, which come sooner"""
CADENCE_SECONDS = 0.35
"""The longest interval between partials that counts as 0.3 s"""


class Target(NamedTuple):
    """One target. `held` is None where nothing was measured."""

    what: str
    target: str
    measured: str
    held: bool | None


def judge(document: dict[str, Any]) -> list[Target]:
    """All targets; nothing where edged was not measured."""
    rows: dict[str, Row] = {row["name"]: row for row in document["systems"]}
    ours, alone = rows.pop(OURS, None), rows.pop(ALONE, {})
    if ours is None:
        return []
    same = [row for row in rows.values() if row["weights"] == ours["weights"]]
    return [
        *_latency(ours),
        _no_worse("word errors, streamed", ours, same, "wer"),
        _no_worse("word errors, offline", ours, same, "offline_wer"),
        _times("offline, one core", ours, same, "one_core"),
        _times("offline, all cores", ours, same, "all_cores"),
        _times("the recogniser alone, one core", alone, same, "one_core"),
        _times("the recogniser alone, all cores", alone, same, "all_cores"),
        _share(ours, [row for row in rows.values() if row.get("first_partial") is not None]),
        *_streams(ours),
        *_alone(ours),
        _copies(document.get("copied")),
    ]


def _under(what: str, value: float | None, limit: float, unit: str = "") -> Target:
    held = None if value is None else value < limit
    return Target(what, f"under {limit:g}{unit}", _shown(value, unit), held)


def _shown(value: float | None, unit: str = "") -> str:
    return "not measured" if value is None else f"{value:.3g}{unit}"


def _latency(ours: Row) -> list[Target]:
    final = ours.get("final") or {}
    each, flicker, interval = (ours.get(n) for n in ("finals_each", "flicker", "interval"))
    known = flicker is not None and interval is not None
    return [
        Target(
            "finals an utterance",
            f"at most {FINALS_EACH}",
            _shown(each),
            None if each is None else each <= FINALS_EACH,
        ),
        _under("final after the end of speech, p50", final.get("p50"), 0.40, " s"),
        _under("final after the end of speech, p99", final.get("p99"), 0.60, " s"),
        _under("first partial, p50", ours.get("first_partial"), 0.35, " s"),
        Target(
            "flicker",
            "under 0.1 at a partial every 0.3 s",
            f"{flicker:.3g} at {interval:.3g} s" if known else "not measured",
            flicker < 0.10 and interval <= CADENCE_SECONDS if known else None,
        ),
    ]


def _best(rows: Sequence[Row], field: str) -> Row | None:
    there = [row for row in rows if row.get(field) is not None]
    return min(there, key=lambda row: row[field], default=None)


def _compare(
    what: str,
    target: str,
    pair: tuple[Row, Sequence[Row], str],
    measure: Callable[[float, float], tuple[str, bool]],
) -> Target:
    """Ours against the best of others in one field, the less the better."""
    ours, others, field = pair
    best = _best(others, field)
    if best is None or ours.get(field) is None:
        return Target(what, target, "not measured", None)
    measured, held = measure(ours[field], best[field])
    return Target(what, target, f"{measured} ({best['name']})", held)


def _no_worse(what: str, ours: Row, same: Sequence[Row], field: str) -> Target:
    return _compare(
        what,
        "no more than the best with the same weights",
        (ours, same, field),
        lambda mine, best: (f"{mine:.1%}, best {best:.1%}", mine <= best),
    )


def _times(what: str, ours: Row, same: Sequence[Row], field: str) -> Target:
    return _compare(
        what,
        "at least 2.5 times as fast as the best with the same weights",
        (ours, same, field),
        lambda mine, best: (f"{best / mine:.2f} times", best / mine >= 2.5),
    )


def _share(ours: Row, others: Sequence[Row]) -> Target:
    return _compare(
        "CPU, with partials",
        "at most 60 % of the best peer's",
        (ours, others, "cpu"),
        lambda mine, best: (f"{mine / best:.0%}", mine / best <= 0.60),
    )


def _streams(ours: Row) -> list[Target]:
    steps = ours.get("steps", [])
    good = [s for s in steps if kept(s) and s["finals_each"] <= FINALS_EACH]
    carried = max((s["admitted"] for s in good), default=0)
    bound = f"at least 16 with p95 under {BOUND_SECONDS:g} s"
    measured = str(carried) if steps else "not measured"
    return [
        Target("streams at once", bound, measured, carried >= 16 if steps else None),
        _beyond(steps),
    ]


def _beyond(steps: Sequence[Row]) -> Target:
    """What happens when more come than can be carried."""
    what, target = "beyond capacity", "refusals; those admitted keep their bound"
    last = max(steps, key=lambda step: step["streams"], default=None)
    if last is None or (kept(last) and last["admitted"] == last["streams"]):
        return Target(what, target, "not reached", None)
    late = "too late" if last["p95"] is None else f"p95 {last['p95']:.2f} s"
    measured = f"{last['admitted']} of {last['streams']} admitted, {late}"
    return Target(what, target, measured, kept(last))


def _alone(ours: Row) -> list[Target]:
    microphone = ours.get("microphone", {})
    return [
        _under("microphone open, silence", microphone.get("silence"), 1.5, " % of a core"),
        _under("microphone open, noise", microphone.get("noise"), 3.0, " % of a core"),
        _under("memory", ours.get("memory"), 220.0, " MB"),
        _under("start to ready", ours.get("ready"), 1.2, " s"),
    ]


def _copies(copied: float | None) -> Target:
    held = None if copied is None else copied <= 1.1
    return Target("audio copied", "at most 1.1 of its own bytes", _shown(copied), held)
