"""edged: the daemon that gives robots, cars and small boxes their hearing."""

import os
import sys

__version__ = "0.1.0"

# Nothing leaves the machine. What reports its use is told not to before it is imported: ONNX
# Runtime to Microsoft, OpenVINO's conversion tools, which come along with it, to Google Analytics
# (without that package they do without), and whoever else respects the wish.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
