"""An artefact as the device gets it: one file, whole."""

from pathlib import Path

from edgeq.errors import ModelError


def read_artifact(path: Path) -> bytes:
    """The bytes of a file; an ONNX model's external data become part of it, because a device gets one file.

    Raises:
        ModelError: it, or a file that it refers to, cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    # The key under which ONNX names the file beside it; without it there is nothing to look for.
    if path.suffix.lower() != ".onnx" or b"location" not in data:
        return data
    import onnx
    from google.protobuf.message import DecodeError, EncodeError

    try:
        model = onnx.load_model_from_string(data)
        if not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
            return data
        return bytes(onnx.load(path).SerializeToString())
    except DecodeError:
        # No ONNX model: the runtime says so in its own words.
        return data
    except EncodeError:
        raise ModelError(f"{path}: with its external data it exceeds the 2 GB of one ONNX file") from None
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{path}: its external data cannot be read: {' '.join(str(error).split())[:300]}") from None
