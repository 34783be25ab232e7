"""What is wrong with the sound of a microphone, by its measures."""

from __future__ import annotations

from collections.abc import Iterator

from edged.doctor.ear import Channel, Heard
from edged.doctor.finding import Finding, fail, ok, warn

MOST_OFF = 0.01
"""Of full scale, that a microphone may be off zero"""
MOST_CLIPPED = 0.0005
LOUDEST_FLOOR = -40.0
"""dBFS; speech from a metre away has some -30"""
APART = 15.0
"""dB by which one channel is louder than another that does not hear the same"""
LEAST_RATE = 16000
MOST_OFF_PACE = 0.02
JITTER_SECONDS = 0.2
"""Of the first and last block, on a machine that has much to do"""
ONE = "set microphone.channel = {} in edged.toml"


def judge(heard: Heard, channel: int | None) -> Iterator[Finding]:
    """`channel` is the one that is listened to; None for all, mixed."""
    if not heard.frames:
        yield fail("device_silent", f"{heard.label} delivers nothing at all", "edged devices")
    elif channel is not None and channel >= len(heard.channels):
        reason = f"{heard.label} has no channel {channel}, only {len(heard.channels)}"
        yield fail("wrong_channel", reason, ONE.format(0))
    elif all(one.zeros for one in heard.channels):
        yield _only_zeros(heard)
    else:
        found = [*_channels(heard, channel), *_levels(heard, channel), *_pace(heard)]
        yield from found or [_well(heard, channel)]


def _only_zeros(heard: Heard) -> Finding:
    if heard.muted:
        reason = f"{heard.label} is muted in the sound server: it delivers zeros"
        return fail("muted_in_sound_server", reason, f"pactl set-source-mute {heard.name} 0")
    reason = f"{heard.label} delivers nothing but zeros: it is muted, or no microphone"
    return fail("only_zeros", reason, "alsamixer (F4: Capture), its own switch; edged devices")


def _channels(heard: Heard, chosen: int | None) -> Iterator[Finding]:
    """Which of several hears."""
    best = max(range(len(heard.channels)), key=lambda number: heard.channels[number].loud)
    loudest = heard.channels[best]
    deaf = [number for number, one in enumerate(heard.channels) if _is_deaf(one, loudest)]
    if chosen in deaf:
        reason = f"channel {chosen} of {heard.label} hears nothing, channel {best} does"
        yield fail("wrong_channel", reason, ONE.format(best))
    elif chosen is None and deaf:
        names = ", ".join(map(str, deaf))
        reason = f"of {len(heard.channels)} channels of {heard.label}, {names} hear nothing"
        yield warn("dead_channel", f"{reason}, and are mixed in all the same", ONE.format(best))


def _is_deaf(channel: Channel, loudest: Channel) -> bool:
    return channel.zeros or loudest.loud - channel.loud > APART


def _levels(heard: Heard, chosen: int | None) -> Iterator[Finding]:
    alive = [one for one in heard.channels if not one.zeros]
    taken = alive if chosen is None else [heard.channels[chosen]]
    off = max(taken, key=lambda one: abs(one.mean))
    if abs(off.mean) > MOST_OFF:
        yield warn(
            "dc_offset",
            f"the sound of {heard.label} lies {off.mean:+.1%} off zero: its electronics, or a "
            "wrong channel",
            "pactl load-module module-echo-cancel, which filters it; or another microphone",
        )
    clipped = max(one.clipped for one in taken)
    if clipped > MOST_CLIPPED:
        reason = f"{clipped:.1%} of the samples of {heard.label} are cut off: it is too loud"
        yield warn("clipping", reason, _quieter(heard))
    floor = min(one.floor for one in taken)
    if floor > LOUDEST_FLOOR:
        reason = f"{heard.label} is never below {floor:.0f} dBFS: it hums, or it is loud here"
        yield warn("noise_floor", reason, f"{_quieter(heard)}; shield its cable, move it")


def _quieter(heard: Heard) -> str:
    if heard.name:
        return f"pactl set-source-volume {heard.name} 60%"
    return "alsamixer (F4: Capture), and lower it"


def _pace(heard: Heard) -> Iterator[Finding]:
    if heard.rate < LEAST_RATE:
        reason = f"{heard.label} records {heard.rate} Hz: much of a voice is missing"
        yield warn("sample_rate", reason, "another profile of the device: pactl list cards")
    off = heard.frames / heard.rate / heard.seconds - 1 if heard.seconds else 0.0
    if abs(off) > MOST_OFF_PACE + JITTER_SECONDS / max(heard.seconds, JITTER_SECONDS):
        reason = f"{heard.label} says {heard.rate} Hz and delivers {1 + off:.2f} times that"
        yield warn("sample_rate", reason, "another profile of the device: pactl list cards")


def _well(heard: Heard, chosen: int | None) -> Finding:
    taken = heard.channels if chosen is None else [heard.channels[chosen]]
    floor, loud = min(one.floor for one in taken), max(one.loud for one in taken)
    return ok("sound", f"from {floor:.0f} to {loud:.0f} dBFS in {heard.seconds:.0f} s")
