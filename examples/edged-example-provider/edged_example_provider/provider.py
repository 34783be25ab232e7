"""ONNX Runtime without an arena: numpy arrays in, numpy arrays out."""

from edged.errors import ProviderError
from edged.provider import Device, ExecutionProvider, Session, TensorSpec

CPU = Device("cpu", "cpu", "CPU, with little memory")
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class Frugal(ExecutionProvider):
    name = "frugal"
    formats = frozenset({".onnx"})
    packages = ("onnxruntime",)

    def version(self):
        import onnxruntime

        return onnxruntime.__version__

    def probe(self):
        return [CPU]

    def open(self, model, device, options):
        if device != CPU:
            raise ProviderError(f"frugal has no device {device.name}; it has: cpu")
        return FrugalSession(model, options)


class FrugalSession(Session):
    device = CPU

    def __init__(self, model, options):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.enable_cpu_mem_arena = False
        settings.enable_mem_pattern = False
        settings.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ProviderError(f"frugal cannot load {model}: {error}") from error
        self.inputs = [_spec(argument) for argument in self._session.get_inputs()]
        self.outputs = [_spec(argument) for argument in self._session.get_outputs()]
        self._dtypes = {spec.name: spec.dtype for spec in self.inputs}

    def run(self, inputs, outputs):
        arrays = {name: self._array(name, tensor) for name, tensor in inputs.items()}
        try:
            return [Made(array) for array in self._session.run(list(outputs), arrays)]
        except Exception as error:
            raise ProviderError(f"frugal failed: {error}") from error

    def _array(self, name, tensor):
        if isinstance(tensor, Made):
            return tensor.numpy()
        if tensor.dtype != self._dtypes.get(name) or not tensor.flags.c_contiguous:
            raise ProviderError(
                f"{name} must be C-contiguous {self._dtypes.get(name)}, is {tensor.dtype} "
                f"with strides {tensor.strides}"
            )
        return tensor

    def close(self):
        del self._session


class Made:
    """What a run made; here it lies in Python's own memory."""

    def __init__(self, array):
        self._array = array

    def numpy(self):
        return self._array


def _spec(argument):
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, DTYPES.get(argument.type, argument.type), shape)
