"""A broker that answers what no broker would."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading

from tests.api.garbage import mutated

CONNACK = b"\x20\x02\x00\x00"
ORDERS = b"edged/box/mute/set"


def publish(topic: bytes, payload: bytes, flags: int = 0, number: bytes = b"") -> bytes:
    return packet(0x30 | flags, len(topic).to_bytes(2) + topic + number + payload)


def packet(kind: int, body: bytes) -> bytes:
    """With its length as MQTT writes it."""
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (128 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


SEEDS = [
    CONNACK,
    packet(0x90, b"\x00\x01\x01"),  # SUBACK
    packet(0x90, b"\x00\x01" + bytes(200)),
    packet(0x40, b"\x00\x01"),  # PUBACK, and the three of QoS 2
    packet(0x50, b"\x00\x02"),
    packet(0x62, b"\x00\x03"),
    packet(0x70, b"\x00\x04"),
    packet(0xB0, b"\x00\x05"),  # UNSUBACK
    packet(0xC0, b""),
    packet(0xD0, b""),
    packet(0xE0, b""),
    publish(ORDERS, b"ON"),
    publish(ORDERS, b"OFF", 0x02, b"\x00\x07"),
    publish(ORDERS, b"ON", 0x04, b"\x00\x08"),
    publish(ORDERS, b"perhaps"),
    publish(b"\xff\xfe\xed", b"\x80\x81"),
    publish(b"", b""),
    publish(b"edged/+/#", b"ON", 0x01),
    b"\x30\xff\xff\xff\x7f",  # 256 MB are to come
    b"\x30\xff\xff\xff\xff\xff",
]


class HostileBroker:
    """Sends packets, most of them wrong in some way, to whoever connects."""

    def __init__(self, port: int, seed: int = 3) -> None:
        self.sent = 0
        """Packets so far"""
        self._chance = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", port))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._listening.settimeout(0.1)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(0.2)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        """Until the client has had enough, or waits for the rest of something."""
        connection.recv(65536)
        if self._chance.random() < 0.9:
            connection.sendall(CONNACK)
        for _ in range(self._chance.randint(1, 200)):
            connection.sendall(self._nonsense())
            self.sent += 1
            while select.select([connection], [], [], 0)[0]:
                if not connection.recv(65536):
                    return

    def _nonsense(self) -> bytes:
        seed = self._chance.choice(SEEDS)
        fate = self._chance.random()
        if fate < 0.2:
            return seed
        if fate < 0.7:  # of the right length
            return packet(
                seed[0] ^ (1 << self._chance.randrange(8)), mutated(self._chance, seed[2:])
            )
        return mutated(self._chance, seed)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._listening.close()
