"""Runs graphs with OpenVINO's Inference Engine for a process that is too new for it.

    python host.py SOCKET

For Python 3.6 to 3.9 with `openvino` 2021.4.2 and numpy; it imports nothing of edged. Orders come
over the socket, one JSON object a packet, and are answered in turn. Tensors lie in memory that the
other side made and sends the descriptor of: both sides write and read in place.

    devices                              -> version, devices
    open      path                       -> session, inputs, outputs
    operators session, device            -> count
    compile   session, device, settings, shapes
                                         -> form, outputs
    memory    form, places, + descriptor -> nothing
    run       form                       -> nothing
    close     session                    -> nothing

A session is a graph that was read, a form is that graph compiled for one device and one choice of
its inputs' shapes. An order that fails is answered by {"error": ...}.
"""

import array
import ctypes
import json
import mmap
import os
import signal
import socket
import sys
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

LARGEST_ORDER = 1 << 20
PR_SET_PDEATHSIG = 1
HOST_TYPES = {"FP32": "float32", "FP16": "float32", "I32": "int32", "I64": "int32"}
"""By the Inference Engine's precisions, numpy's word for what is exchanged: a graph in half
precision is fed with floats, which the device makes its own"""
ENGINE_TYPES = {"float32": "FP32", "int32": "I32"}
Order = Dict[str, Any]
Answer = Dict[str, Any]


class Form:
    """A graph, compiled."""

    def __init__(self, network: Any, executable: Any) -> None:
        self._network = network
        self._executable = executable
        self._request = executable.requests[0]
        self.inputs = {name: info.tensor_desc for name, info in network.input_info.items()}
        self.outputs = {name: _described(data) for name, data in network.outputs.items()}
        self._held: Optional[mmap.mmap] = None

    def memory(self, descriptor: int, places: Dict[str, Any]) -> None:
        """Take inputs from this memory, and put outputs there."""
        from openvino.inference_engine import Blob, TensorDesc

        try:
            self._held = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        for name, place in places.items():
            dtype, shape, offset = place
            count = int(np.prod(shape, dtype=np.int64))
            tensor = np.frombuffer(self._held, dtype, count, offset).reshape(shape)
            data = self.inputs.get(name) or self._network.outputs[name]
            described = TensorDesc(ENGINE_TYPES[dtype], shape, data.layout)
            self._request.set_blob(name, Blob(described, tensor))

    def run(self) -> None:
        self._request.infer()


class Host:
    """All that is open."""

    def __init__(self) -> None:
        from openvino.inference_engine import IECore

        self._core = IECore()
        self._networks: Dict[int, Any] = {}
        self._forms: Dict[int, Form] = {}
        self._count = 0

    def devices(self, order: Order) -> Answer:
        import openvino.inference_engine

        version = openvino.inference_engine.__version__.partition("-")[0]
        return {"version": version, "devices": list(self._core.available_devices)}

    def open(self, order: Order) -> Answer:
        """Read a graph; from memory, because it knows files of ONNX by another ending only."""
        with open(order["path"], "rb") as file:
            network = self._core.read_network(file.read(), b"", init_from_buffer=True)
        for data in [*network.input_info.values(), *network.outputs.values()]:
            data.precision = ENGINE_TYPES[HOST_TYPES[data.precision]]
        session = self._new()
        self._networks[session] = network, []
        return {
            "session": session,
            "inputs": {name: _described(i.input_data) for name, i in network.input_info.items()},
            "outputs": {name: _described(data) for name, data in network.outputs.items()},
        }

    def operators(self, order: Order) -> Answer:
        """How many of them the device says that it takes."""
        network, _ = self._networks[order["session"]]
        return {"count": len(self._core.query_network(network, order["device"]))}

    def compile(self, order: Order) -> Answer:
        network, forms = self._networks[order["session"]]
        network.reshape({name: tuple(shape) for name, shape in order["shapes"].items()})
        executable = self._core.load_network(
            network, order["device"], order["settings"], num_requests=1
        )
        form = self._new()
        self._forms[form] = Form(network, executable)
        forms.append(form)
        return {"form": form, "outputs": self._forms[form].outputs}

    def memory(self, order: Order) -> Answer:
        self._forms[order["form"]].memory(order["descriptor"], order["places"])
        return {}

    def run(self, order: Order) -> Answer:
        self._forms[order["form"]].run()
        return {}

    def close(self, order: Order) -> Answer:
        for form in self._networks.pop(order["session"])[-1]:
            del self._forms[form]
        return {}

    def _new(self) -> int:
        self._count += 1
        return self._count


def _described(data: Any) -> Tuple[str, List[int]]:
    return HOST_TYPES[data.precision], list(data.shape)


def _receive(sock: socket.socket) -> Optional[Order]:
    """The next order, with its descriptor; None when the other side is gone."""
    descriptors = array.array("i")
    message, ancillary, _, _ = sock.recvmsg(LARGEST_ORDER, socket.CMSG_LEN(descriptors.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not message:
        return None
    order: Order = json.loads(message.decode())
    if descriptors:
        order["descriptor"] = descriptors[0]
    return order


def main() -> None:
    # One that hangs in a driver would not see that the socket has ended.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sock = socket.socket(fileno=int(sys.argv[1]))
    host: Optional[Host] = None
    while True:
        order = _receive(sock)
        if order is None:
            return
        try:
            host = host or Host()
            answer = getattr(host, order.pop("do"))(order)
        except Exception as error:  # noqa: BLE001  whatever it is, the other side is told
            said = " ".join(str(error).split())
            answer = {"error": said or repr(error)}
        sock.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
