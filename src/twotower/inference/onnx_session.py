"""Sessions of onnxruntime, all with the same options."""

from typing import Final

import onnxruntime

from twotower.errors import InputError

_ONLY_FATAL: Final = 4


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    Parameters
    ----------
    model
        An ONNX model.
    threads
        Threads that one run may use. A server that answers many requests at once wants 1.

    Raises
    ------
    InputError
        At fewer than one thread.
    Exception
        Where onnxruntime cannot read the model; its errors share no narrower class.
    """
    if threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL  # errors are raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
