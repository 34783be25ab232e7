"""edged's own recogniser without the daemon around it, which is what the others are offline.

No endpoints and no voice detector: whole recordings only. It runs in edged's Python.
"""

from __future__ import annotations

import wire
from msgspec.structs import replace

from edged.config import load
from edged.engine import choose
from edged.engine.worker import find_device, opener
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.plugins import Plugins
from edged.provider import devices

PROVIDER, DEVICE, PRECISION = "onnxruntime", "cpu", "int8"


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--model", required=True, help="name of a built model")
    options = parser.parse_args()
    worker = choose.worker_options(load(None))
    if options.threads:
        worker = replace(worker, encoder_threads=options.threads)
    provider = Plugins.discover().provider(PROVIDER)
    device = find_device(PROVIDER, devices(provider, {}), DEVICE)
    model = store().get(options.model)
    opened = opener(provider, device, PRECISION, worker)
    recognizer = Moonshine(model, PRECISION, opened)
    wire.serve(
        None,
        lambda samples: recognizer.transcribe(samples).text,
        offline=options.offline,
        model=[model.path(name) for name in model.files_for(PRECISION, opened.formats)],
    )


if __name__ == "__main__":
    main()
