"""edged: the daemon that gives robots, cars and small boxes their hearing."""

import os

__version__ = "0.1.0"

# Nothing leaves the machine: ONNX Runtime carries a telemetry client that must be told before it
# is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
