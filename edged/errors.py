"""Errors that a user can cause or mend: one line that says what to do next, and a stable code."""

from __future__ import annotations

from pathlib import Path

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_MODEL = 3
EXIT_PORT = 4


class EdgedError(Exception):
    """A failure with a cure: printed as one line, without a traceback."""

    code = "error"
    exit_code = EXIT_FAILURE

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code


class ConfigurationError(EdgedError):
    """The configuration says something that edged does not understand."""

    code = "configuration"
    exit_code = EXIT_USAGE


class ModelError(EdgedError):
    """A model's file is missing, broken or of the wrong kind."""

    code = "model"
    exit_code = EXIT_MODEL

    def __init__(self, message: str, *, path: Path | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.path = path


class ProviderError(EdgedError):
    """An execution provider cannot do what it was asked to do."""

    code = "provider"


class AudioError(EdgedError):
    """Audio that cannot be read or recognised as audio."""

    code = "audio"


class RecordingError(EdgedError):
    """A recording of the flight recorder's that cannot be read, or not be heard again."""

    code = "bad_recording"
    exit_code = EXIT_USAGE


class DeviceError(EdgedError):
    """A microphone that cannot be found or opened."""

    code = "device"


class MissingLibraryError(EdgedError):
    """A system library is not installed; the message holds the command that installs it."""

    code = "missing_library"


class PortInUseError(EdgedError):
    """Another program listens where edged was told to."""

    code = "port_in_use"
    exit_code = EXIT_PORT


class EngineError(EdgedError):
    """No engine worker can be kept running."""

    code = "engine"


class ClientError(EdgedError):
    """A client says something that its protocol does not know."""

    code = "bad_message"
