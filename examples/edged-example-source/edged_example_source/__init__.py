"""An audio source for edged: float32 samples at 16 kHz that come by UDP."""

import socket

from edged.errors import DeviceError
from edged.hookspecs import hookimpl
from edged.source import AudioSource


class Udp(AudioSource):
    scheme = "udp"

    def __init__(self, address):
        self.label = f"UDP port {address}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", int(address)))
        except (OSError, ValueError, OverflowError) as error:
            self._socket.close()
            raise DeviceError(f"{self.label} cannot be opened: {error}") from error

    def blocks(self):
        import numpy as np

        while data := self._socket.recv(65536):
            yield np.frombuffer(data, np.float32)


@hookimpl
def edged_audio_sources():
    return [Udp]
