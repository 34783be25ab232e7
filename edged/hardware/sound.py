"""Audio inputs, as the kernel lists them. A sound server may offer others."""

from __future__ import annotations

import re

import msgspec

from edged.hardware.root import Root

_CARD = re.compile(r"(?m)^\s*(\d+) \[(\S+)\s*\]: .*? - (.*)$")
_STREAM = re.compile(r"(?m)^(\d+)-(\d+): ([^:]*?)\s*:.*\bcapture \d+")


class AudioInput(msgspec.Struct, frozen=True):
    """A capture device of ALSA."""

    identity: str
    """alsa:CARD,DEVICE, as `edged devices` names one that has no better identity"""
    label: str


def read(root: Root) -> list[AudioInput]:
    """Every device that can capture."""
    cards = {
        int(number): (identity, label.strip())
        for number, identity, label in _CARD.findall(root.text("proc/asound/cards") or "")
    }
    found = []
    for card, device, stream in _STREAM.findall(root.text("proc/asound/pcm") or ""):
        identity, label = cards.get(int(card), (card, "unknown card"))
        found.append(AudioInput(f"alsa:{identity},{int(device)}", f"{label}: {stream}"))
    return found
