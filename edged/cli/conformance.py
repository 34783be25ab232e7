"""A plugin, held against its contracts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edged.cli.options import Json
from edged.cli.output import progress, table, write_json

app = typer.Typer(add_completion=False)


@app.command()
def conformance(
    name: Annotated[str, typer.Argument(help="A plugin, or what one supplies (`edged plugins`).")],
    model: Annotated[str | None, typer.Option(help="The built model to check with.")] = None,
    device: Annotated[str | None, typer.Option(help="This device only.")] = None,
    json: Json = False,
) -> None:
    """Hold a plugin against the contracts that it implements.

    Each check is tried in a process that may crash or block. Exit code 0: all hold. 1: one does
    not.
    """
    from edged.testing import apart
    from edged.testing.plan import Wish, find

    wish = Wish(name, model, device)
    find(wish)  # says what there is, if that is nothing
    results = []
    with progress("checking") as advance:
        for result in apart.run(wish):
            advance(str(result), 0.0)
            results.append(result)
    if json:
        write_json(results)
    else:
        rows = [(r.subject, r.sentence, r.reason or "yes") for r in results]
        table(("of", "what must hold", "holds"), rows)
    if not all(result.passed for result in results):
        sys.exit(1)
