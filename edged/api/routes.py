"""The native REST API."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from edged import __version__
from edged.api import schemas
from edged.api.problems import ERRORS, OPENAI_ERRORS, FieldError, described
from edged.audio.devices import InputDevice
from edged.daemon import Daemon, Origin
from edged.engine import choose
from edged.engine.ask import ProviderReport, ask_all, run_apart
from edged.engine.ladder import Ladder
from edged.engine.probe import last_report
from edged.engine.stream import Stream
from edged.errors import EdgedError, ModelError
from edged.meters import STAGES
from edged.models.sources import SOURCES
from edged.recognizer import SAMPLE_RATE

DEVICES_SECONDS = 5.0
PLAYBACK_SECONDS = 30.0
"""Longest that the machine speaks, where it says neither how long nor what"""
SLOWEST_SPEECH = 8
"""Characters a second: half of what synthetic voices do"""
MUTE_SECONDS = 3.0
"""Longest wait until an order to mute is in force; a capture process that does not obey is ended"""

router = APIRouter(prefix="/v1", tags=["edged"])


def _daemon(request: Request) -> Daemon:
    daemon: Daemon = request.app.state.daemon
    return daemon


@router.get(
    "/health",
    responses=ERRORS
    | {
        200: {
            "model": schemas.Health,
            "content": {"application/json": {"example": schemas.EXAMPLE_HEALTH}},
        },
        503: {"model": schemas.Health, "description": "Alive, but it cannot recognise yet"},
    },
)
async def health(request: Request) -> JSONResponse:
    """Whether edged is alive and whether it can recognise, apart from each other."""
    daemon = _daemon(request)
    report = {
        "live": True,
        "ready": daemon.supervisor.ready,
        "reasons": daemon.reasons(),
        "engine": msgspec.to_builtins(daemon.supervisor.state),
        "microphone": _microphone(daemon),
        "recording": daemon.recorder is not None,
        "uptime": round(time.monotonic() - daemon.started, 3),
        "version": __version__,
        "pid": os.getpid(),
    }
    return JSONResponse(report, 200 if daemon.supervisor.ready else 503)


@router.get("/engine", responses=ERRORS)
async def engine(request: Request) -> schemas.Ladder:
    """The ladder: every step, which one serves, and why not a better one."""
    daemon = _daemon(request)
    supervisor, ladder = daemon.supervisor, daemon.supervisor.ladder
    now = time.monotonic()
    return schemas.Ladder(
        engine=schemas.Engine(**msgspec.to_builtins(supervisor.state)),
        pinned=ladder.pinned,
        fallback=daemon.configuration.engine.fallback,
        moves=daemon.moves,
        workers=supervisor.starts,
        lag=supervisor.lag,
        p95=supervisor.p95,
        steps=[
            schemas.Step(
                rung=schemas.Rung(**msgspec.to_builtins(step.rung)),
                pace=step.pace,
                serving=supervisor.ready and index == ladder.index,
                asked_for=choose.meets(daemon.configuration.engine, step.rung),
                reason=step.reason,
                failures=step.failures,
                waits=max(0.0, round(step.until - now, 1)),
            )
            for index, step in enumerate(ladder.steps)
        ],
    )


@router.post("/engine", responses=ERRORS)
async def order_engine(request: Request, order: schemas.EngineOrder) -> schemas.Ladder:
    """Move the engine, or hold it on a step. Nothing that was said is lost by it."""
    supervisor = _daemon(request).supervisor
    if order.action == "pin":
        supervisor.pin(_step(supervisor.ladder, order.step))
    elif order.action == "release":
        supervisor.release()
    elif order.action == "demote":
        supervisor.step_down("it was asked to")
    else:
        supervisor.climb(patient=False)
    return await engine(request)


def _step(ladder: Ladder, number: int | None) -> int:
    """The step to pin; the one that serves if none is named."""
    index = ladder.index if number is None else number
    if index >= len(ladder.steps):
        raise EdgedError(f"There are {len(ladder.steps)} steps, from 0", code="no_step")
    return index


def _microphone(daemon: Daemon) -> dict[str, Any]:
    state = daemon.microphone_state
    return dataclasses.asdict(state) | {"muted": state.muted}


@router.post("/microphone", responses=ERRORS)
async def order_microphone(request: Request, order: schemas.MuteOrder) -> schemas.MicrophoneReport:
    """Mute or unmute: while muted, no audio leaves the capture process.

    The answer comes when it is so. The mute switch is above it: `muted_by` says who mutes.
    """
    daemon = _daemon(request)
    daemon.mute(order.muted)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(daemon.muting(), MUTE_SECONDS)
    return schemas.MicrophoneReport(**_microphone(daemon))


@router.post("/reload", responses=ERRORS | described(400))
async def reload(request: Request) -> schemas.Reloaded:
    """Read the configuration again, as SIGHUP does. A file with a mistake changes nothing."""
    return schemas.Reloaded(later=await _daemon(request).reload())


@router.post("/playback", responses=ERRORS | described(404))
async def order_playback(request: Request, order: schemas.PlaybackOrder) -> schemas.PlaybackReport:
    """Tell that this machine itself speaks, or is done, so that it does not hear itself."""
    stream = _daemon(request).stream_named(order.stream)
    if order.state == "stopped":
        stream.stop_playing(round(order.tail * SAMPLE_RATE))
    else:
        seconds = order.seconds or max(PLAYBACK_SECONDS, len(order.text or "") / SLOWEST_SPEECH)
        stream.play(order.text, round(seconds * SAMPLE_RATE))
    playing = stream.own_voice.current
    return schemas.PlaybackReport(
        stream=order.stream,
        mode=playing.mode if playing else None,
        start=playing.start / SAMPLE_RATE if playing else None,
        end=playing.end / SAMPLE_RATE if playing else None,
    )


@router.get("/clock", responses=ERRORS)
async def clock(request: Request) -> schemas.Clock:
    """This moment by every clock there is, for those who set theirs by it."""
    offset = _daemon(request).ros_offset
    now = time.monotonic()
    return schemas.Clock(
        clock=now,
        time=time.time(),
        ros_offset=offset,
        ros_time=None if offset is None else now + offset,
    )


@router.post("/clock", responses=ERRORS)
async def order_clock(request: Request, order: schemas.ClockOrder) -> schemas.Clock:
    """Tell how the robot's own clock stands: finals carry `ros_time` until edged ends."""
    _daemon(request).ros_offset = order.ros_offset
    return await clock(request)


@router.get("/devices", responses=ERRORS)
async def devices(request: Request) -> schemas.Devices:
    """Audio inputs by stable identity."""
    in_use = _daemon(request).microphone_state.identity
    try:
        found = await run_apart("edged.audio.devices", list[InputDevice], DEVICES_SECONDS)
    except EdgedError as error:
        return schemas.Devices(devices=[], error=error.message)
    return schemas.Devices(devices=[_device(device, in_use) for device in found])


def _device(device: InputDevice, in_use: str | None) -> schemas.Device:
    return schemas.Device(
        identity=device.identity,
        label=device.label,
        channels=device.channels,
        rate=device.rate,
        default=device.default,
        in_use=device.identity == in_use,
    )


@router.get("/plugins", responses=ERRORS)
async def plugins(request: Request) -> schemas.Plugins:
    """Installed plugins, usable or not and why, and the devices their providers find."""
    return schemas.Plugins(
        plugins=[
            schemas.Plugin(
                name=plugin.name,
                distribution=plugin.distribution,
                version=plugin.version,
                usable=plugin.error is None,
                reason=plugin.error,
            )
            for plugin in _daemon(request).plugins.all
        ],
        providers=[schemas.Provider(**msgspec.to_builtins(p)) for p in await _providers(request)],
    )


async def _providers(request: Request) -> list[ProviderReport]:
    """What the providers find, each of which is asked once, however many want to know at once."""
    state = request.app.state
    async with state.asking:
        if not hasattr(state, "providers"):
            state.providers = await ask_all(_daemon(request).configuration.provider_options())
    found: list[ProviderReport] = state.providers
    return found


@router.get(
    "/hardware",
    responses=ERRORS
    | described(404)
    | {200: {"content": {"application/json": {"schema": schemas.HARDWARE}}}},
)
async def hardware() -> Response:
    """What the last `edged probe` found here: hardware, proven rungs, obstacles and remedies."""
    report = await asyncio.to_thread(last_report)
    if report is None:
        raise EdgedError("This machine was not looked at yet. Run: edged probe", code="not_probed")
    answer = {"age_seconds": round(max(0.0, time.time() - report.time), 3), "report": report}
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get("/models", responses=ERRORS)
async def models(request: Request) -> schemas.Models:
    """Models that are built or could be, with the reason for each that is not usable.

    OpenAI's clients find their list under `data`.
    """
    daemon = _daemon(request)
    found = [_model(daemon, name) for name in _model_names(daemon)]
    usable = [schemas.OpenAIModel(id=model.name) for model in found if model.usable]
    return schemas.Models(models=found, data=usable)


@router.get("/models/{name}", responses=OPENAI_ERRORS)
async def model(request: Request, name: str) -> schemas.OpenAIModel:
    """A usable model, as OpenAI's clients ask for one."""
    daemon = _daemon(request)
    names = _model_names(daemon)
    if name not in names:
        sentence = f"There is no model {name[:80]!r}; there are {', '.join(names)}"
        raise FieldError(sentence, code="model_not_found", param="model")
    found = _model(daemon, name)
    if found.reason:
        raise FieldError(found.reason, code="model_not_found", param="model")
    return schemas.OpenAIModel(id=name)


def _model_names(daemon: Daemon) -> list[str]:
    """Of models that are built or could be."""
    return list(dict.fromkeys([*(source.name for source in SOURCES), *daemon.models.names()]))


def _model(daemon: Daemon, name: str) -> schemas.Model:
    effective = daemon.supervisor.state.effective
    try:
        model = daemon.models.get(name)
    except ModelError as error:
        return schemas.Model(name=name, usable=False, reason=error.message, precisions=[])
    return schemas.Model(
        name=name,
        usable=True,
        reason=None,
        precisions=model.precisions,
        language=model.language,
        licence=model.licence,
        source=model.source,
        in_use=effective is not None and effective.model == name,
    )


@router.get("/streams", responses=ERRORS)
async def streams(request: Request) -> schemas.Streams:
    """The audio that is being recognised, and whose it is."""
    daemon = _daemon(request)
    now = time.monotonic()
    return schemas.Streams(
        streams=[
            _stream(stream, daemon.origins.get(stream), now) for stream in daemon.supervisor.streams
        ],
        most=daemon.most_streams,
    )


def _stream(stream: Stream, origin: Origin | None, now: float) -> schemas.Stream:
    return schemas.Stream(
        name=stream.name or f"recording-{stream.number}",
        protocol=origin.protocol if origin else "openai",
        age=round(now - origin.began, 3) if origin else None,
        audio=round(stream.written / SAMPLE_RATE, 3),
        speaking=stream.speaking,
    )


@router.get("/latencies", responses=ERRORS)
async def latencies(
    request: Request,
    seconds: Annotated[float, Query(ge=1, le=86400, description="How far back")] = 3600,
    parts: Annotated[int, Query(ge=1, le=240, description="How many points at most")] = 60,
) -> schemas.Latencies:
    """How long texts took of late, over time and stage by stage; of audio at the pace of time."""
    meters, now = _daemon(request).meters, time.monotonic()
    return schemas.Latencies(
        seconds=seconds,
        stages=[
            schemas.Stage(
                stage=stage,
                spans=[
                    schemas.Span(**dataclasses.asdict(span))
                    for span in meters.latencies.of(stage, now, seconds, parts)
                ],
            )
            for stage in STAGES
        ],
    )
