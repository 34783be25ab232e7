"""What holds for every plugin, and the contracts that are small: detectors, policies, sources,
sinks, routers and commands."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from edged.errors import EdgedError
from edged.hookspecs import PROJECT
from edged.messages import (
    Closed,
    EngineChanged,
    EngineState,
    Event,
    Final,
    Gap,
    Hello,
    Latency,
    MicrophoneChanged,
    Partial,
    Rung,
    SpeechStarted,
)
from edged.plugins import Plugin, Plugins
from edged.policy import Candidate, Demand, Policy
from edged.provider import Opener
from edged.recognizer import SAMPLE_RATE, VoiceDetector
from edged.sink import TranscriptSink
from edged.source import AudioSource
from edged.testing.check import BrokenContractError, named, require

PROMPT_SECONDS = 5.0
"""Longest time for what is done once; a sink that always takes so long loses events"""
IMPORTS = """
import sys
import edged.api.app, edged.cli, edged.run, edged.plugins, numpy, typer
from importlib.metadata import EntryPoint
known = set(sys.modules)
edged.plugins.load(EntryPoint(name=sys.argv[1], value=sys.argv[2], group="edged"))
new = {name.partition(".")[0] for name in set(sys.modules) - known}
print(" ".join(sorted(new - sys.stdlib_module_names - {name.partition(".")[0] for name in known})))
"""

# -- every plugin ---------------------------------------------------------------------------------


def can_be_loaded(plugin: Plugin) -> None:
    """It is loaded, its hooks answer, and what they return has names that nobody else has."""
    require(plugin.error is None, plugin.error or "")
    require(any(plugin.supplies.values()), "it supplies nothing: no hook of it returned anything")


def imports_no_runtime(plugin: Plugin) -> None:
    """Importing it and asking its hooks imports nothing that the daemon has not imported anyway."""
    entries = entry_points(group=PROJECT, name=plugin.name)
    [entry] = [e for e in entries if e.dist and e.dist.name == plugin.distribution]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, entry.name, entry.value],
        capture_output=True,
        text=True,
        check=False,
    )
    require(done.returncode == 0, done.stderr.strip().rpartition("\n")[2])
    own = (entry.module.partition(".")[0], "edged_")
    foreign = [name for name in done.stdout.split("\n")[-2].split() if not name.startswith(own)]
    require(not foreign, f"it imports {', '.join(foreign)}; do that where it is used")


# -- voice detectors ------------------------------------------------------------------------------


def says_what_it_wants(kind: type[VoiceDetector]) -> None:
    """window and context are lengths in samples."""
    window, context = kind.window, kind.context
    require(isinstance(window, int) and 0 < window <= SAMPLE_RATE, f"window is {window}")
    require(isinstance(context, int) and 0 <= context <= SAMPLE_RATE, f"context is {context}")


def gives_probabilities(kind: type[VoiceDetector]) -> None:
    """probability() is between 0 and 1, whatever is heard, and no speech is heard in silence."""
    detector = _detector(kind)
    for samples in _windows(kind):
        probability, _ = detector.probability(samples, None)
        require(0 <= probability <= 1, f"it says {probability}")
    probability, _ = detector.probability(np.zeros(kind.context + kind.window, np.float32), None)
    require(probability < 0.5, f"it hears speech in silence ({probability:.2f})")


def keeps_no_state(kind: type[VoiceDetector]) -> None:
    """State is a value: the same window and state give the same answer, whatever came since."""
    detector = _detector(kind)
    first, second, third = list(_windows(kind))[:3]
    _, state = detector.probability(first, None)
    before, _ = detector.probability(second, state)
    detector.probability(third, state)
    after, _ = detector.probability(second, state)
    require(before == after, f"it says {before}, then {after}")


def judges_several_alike(kind: type[VoiceDetector]) -> None:
    """probabilities() says of windows in a row what probability() says of one after the other."""
    detector = _detector(kind)
    samples = np.concatenate([window[kind.context :] for window in _windows(kind)])
    samples = np.concatenate([np.zeros(kind.context, np.float32), samples])
    one_by_one = VoiceDetector.probabilities(detector, samples, None)
    at_once = detector.probabilities(samples, None)
    alone, together = ([round(said, 3) for said, _ in each] for each in (one_by_one, at_once))
    alike = len(alone) == len(together) and np.allclose(alone, together, atol=0.002)
    require(alike, f"it says {alone}, and at once {together}")


def _detector(kind: type[VoiceDetector]) -> VoiceDetector:
    provider = Plugins.discover().provider("onnxruntime")
    [device, *_] = [found for found in provider.probe() if found.kind == "cpu"]
    return kind(Opener(provider, device))


def _windows(kind: type[VoiceDetector]) -> list[np.ndarray]:
    """A tone, noise and something very loud."""
    length = kind.context + kind.window
    tone = np.sin(np.arange(length) * (2 * math.pi * 300 / SAMPLE_RATE)) / 3
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, length)
    return [samples.astype(np.float32) for samples in (tone, noise, np.sign(noise))]


# -- policies -------------------------------------------------------------------------------------


def orders_what_there_is(policy: Policy) -> None:
    """order() returns rungs that it was given, none twice, and the same ones again."""
    candidates = _candidates()
    rungs = policy.order(candidates, Demand())
    given = [candidate.rung for candidate in candidates]
    require(all(rung in given for rung in rungs), f"{rungs} of {given}")
    require(len(set(rungs)) == len(rungs), f"a rung comes twice: {rungs}")
    require(policy.order(candidates, Demand()) == rungs, "asked again, it says something else")
    require(policy.order([], Demand()) == [], "it makes rungs of nothing")


def waits_for_some_audio(policy: Policy) -> None:
    """interval() is a time in seconds."""
    seconds = policy.interval(0.3, Demand())
    require(math.isfinite(seconds) and 0 < seconds <= 10, f"it says {seconds}")


def _candidates() -> list[Candidate]:
    rows = [("npu", "fp16", 0.01), ("cpu", "int8", 0.05), ("cpu", "fp32", None)]
    return [
        Candidate(Rung("model", "provider", device, precision), device, wish, factor)
        for wish, (device, precision, factor) in enumerate(rows)
    ]


# -- sources --------------------------------------------------------------------------------------


def has_a_scheme_of_its_own(kind: type[AudioSource]) -> None:
    """scheme is a word in small letters that means nothing else as a microphone's source."""
    from edged.audio.capture import IDENTITIES, OURS

    require(re.fullmatch(r"[a-z][a-z0-9+._-]*", kind.scheme), f"{kind.scheme!r} is no word")
    require(kind.scheme not in {*OURS, *IDENTITIES, "auto"}, f"{kind.scheme} is one of edged's")


def refuses_nonsense(kind: type[AudioSource]) -> None:
    """An address that cannot be opened raises EdgedError, and nothing else."""
    for address in ("", "no such thing:-1"):
        try:
            source = kind(address)
        except EdgedError:
            continue
        except Exception as error:
            raise BrokenContractError(f"{kind.scheme}:{address} raised {error!r}") from error
        good = source.rate > 0 and source.channels > 0
        require(good, f"{source.rate} hertz, {source.channels} channels")


# -- sinks ----------------------------------------------------------------------------------------


class SinkWithSettings:
    """A sink, with what the configuration says for it."""

    def __init__(self, kind: type[TranscriptSink], settings: dict[str, Any]) -> None:
        self.kind = kind
        self.settings = settings


def takes_every_event(subject: SinkWithSettings) -> None:
    """It opens with its settings, takes every kind of event, and closes."""
    sink = subject.kind(subject.settings)
    for event in _events():
        started = time.monotonic()
        sink.take("conformance", event)
        seconds = time.monotonic() - started
        require(seconds < PROMPT_SECONDS, f"{event['type']} took it {seconds:.1f} s")
    sink.close()


def _events() -> list[dict[str, Any]]:
    import msgspec

    state = EngineState(None, Rung("model", "provider", "cpu", "int8"))
    events: list[Event] = [
        Hello("microphone", "model", state, SAMPLE_RATE, False),
        SpeechStarted(1, 0.0),
        Partial(1, "it was", "it", 0.0, 0.5, 0.01),
        Final(1, "It was.", 0.0, 1.0, 0.9, state, Latency(0.3, 0.1, 0.4), 1.0, id=1),
        Gap(1.0, 2.0, "muted"),
        MicrophoneChanged("muted", "auto", "alsa:PCH,0", "PCH", muted_by=["order"]),
        EngineChanged(None, state.effective, "it was there"),
        Closed("stopping"),
    ]
    return [msgspec.to_builtins(event) for event in events]


# -- routers and commands -------------------------------------------------------------------------


def routes_can_be_served(plugin: Plugin) -> None:
    """Its routers become an application that can describe itself."""
    from edged.api.extensions import application

    app = application(plugin, plugin.supplies["edged_api_routers"])
    paths = app.openapi()["paths"]
    sockets = [route for route in app.routes if type(route).__name__ == "APIWebSocketRoute"]
    require(paths or sockets, "there are no routes")


def explains_its_commands(plugin: Plugin) -> None:
    """`edged NAME --help` says what its commands do, and NAME is no command of edged's."""
    from typer.testing import CliRunner

    from edged.cli.commands import OURS

    require(plugin.name not in OURS, f"edged {plugin.name} is one of edged's")
    for commands in plugin.supplies["edged_cli_commands"]:
        result = CliRunner().invoke(commands, ["--help"])
        require(result.exit_code == 0, f"--help left with {result.exit_code}: {result.output}")


PLUGIN = [named(can_be_loaded), named(imports_no_runtime)]
DETECTOR = [
    named(says_what_it_wants),
    named(gives_probabilities),
    named(keeps_no_state),
    named(judges_several_alike),
]
POLICY = [named(orders_what_there_is), named(waits_for_some_audio)]
SOURCE = [named(has_a_scheme_of_its_own), named(refuses_nonsense)]
SINK = [named(takes_every_event)]
ROUTER = [named(routes_can_be_served)]
COMMAND = [named(explains_its_commands)]
