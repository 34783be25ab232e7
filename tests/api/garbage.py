"""Messages that nobody would send."""

from __future__ import annotations

import random


def mutated(random_: random.Random, message: bytes) -> bytes:
    """A message with some of its bytes changed, cut out, or said twice."""
    data = bytearray(message)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(3):
            case 0:
                data[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                del data[at : at + random_.randint(1, 8)]
            case _:
                data[at:at] = data[at : at + random_.randint(1, 8)]
    return bytes(data)
