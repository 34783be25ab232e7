import socket
import threading

import numpy as np
from edged_example_source import Udp

from edged.testing import keeps_contract

test_contract = keeps_contract("udp")


def test_what_is_sent_arrives():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        port = sender.getsockname()[1]
    source = Udp(str(port))
    sent = np.linspace(-1, 1, 512, dtype=np.float32)

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(sent.tobytes(), ("127.0.0.1", port))
            sender.sendto(b"", ("127.0.0.1", port))

    threading.Thread(target=send).start()
    assert np.array_equal(np.concatenate(list(source.blocks())), sent)
