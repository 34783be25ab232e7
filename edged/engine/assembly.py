"""The engine as the configuration wants it: its ladder, whom it admits, what mends it."""

from __future__ import annotations

from collections.abc import Callable

from edged import profiles
from edged.config import Configuration
from edged.engine import choose
from edged.engine.building import endings_for, mend
from edged.engine.launch import Launched
from edged.engine.supervisor import Admit, Supervisor
from edged.engine.verdicts import Verdicts
from edged.engine.witness import Witness
from edged.errors import ModelError
from edged.messages import EngineState, Ready, Rung
from edged.models.inventory import store


def ladder(configuration: Configuration) -> list[Rung]:
    """The rungs that the configuration allows. Raises ModelError when there is none."""
    verdicts = Verdicts(options=configuration.provider_options())
    rungs = choose.ladder_here(configuration.engine, verdicts)
    if not rungs:
        raise _nothing_to_run(verdicts, configuration.engine.model)
    return rungs


def _nothing_to_run(verdicts: Verdicts, wanted: str) -> ModelError:
    refused = next((verdict for verdict in verdicts.remembered() if not verdict.ok), None)
    if refused:
        return ModelError(
            f"All that is built was refused here; {refused.rung}: {refused.reason}. "
            "Once that is mended, run: edged probe --fresh",
            code="nothing_proven",
        )
    if wanted in store().names():
        return ModelError(
            f"{wanted} is there in {', '.join(store().get(wanted).precisions)}, but not for the "
            "provider, device and precision that the configuration names",
            code="model_missing",
        )
    return ModelError(
        f"No model is built in {store().folder}. Run: edged models build",
        path=store().folder,
        code="model_missing",
    )


def make_supervisor(
    configuration: Configuration,
    on_change: Callable[[EngineState], None] = lambda _state: None,
    witness: Witness | None = None,
    early: Launched | None = None,
) -> Supervisor:
    """An engine as configured. Raises ModelError."""
    models = store()
    return Supervisor(
        ladder(configuration),
        lambda rung: models.place(rung.model),
        choose.worker_options(configuration),
        admit=admission(configuration),
        fits=lambda rung: choose.fits(_bytes(rung)),
        mend=mend,
        on_change=on_change,
        witness=witness,
        early=early,
    )


def admission(configuration: Configuration) -> Admit | None:
    """`auto` leaves a rung that has no room to spare; a model by name is taken as it is."""
    return _lacks_room if configuration.engine.model == choose.AUTO else None


def _lacks_room(ready: Ready) -> str | None:
    return choose.too_slow(ready, profiles.matching().engine.room_to_spare)


def _bytes(rung: Rung) -> int:
    """Size of a rung's files; 0 where it cannot be known."""
    try:
        model = store().get(rung.model)
    except ModelError:
        return 0
    names = model.files_for(rung.precision, endings_for(rung.provider, rung.device))
    return sum(model.files[name]["bytes"] for name in names)
