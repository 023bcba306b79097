"""What TensorFlow Serving tells about a model: the state of its versions, and its signatures."""

from collections.abc import Mapping
from typing import Any, Final

from app.api.pictures import ENCODED, PIXELS, PROBABILITIES, SCORE
from app.api.tfserving_request import SIGNATURES
from app.manifest import Manifest

METHOD: Final = "tensorflow/serving/predict"


def status(versions: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    """The document for each version, from its state and what is wrong with it, if anything is."""
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": "INTERNAL" if problem else "OK", "error_message": problem},
            }
            for number, (state, problem) in sorted(versions.items(), reverse=True)
        ]
    }


def metadata(manifest: Manifest) -> dict[str, Any]:
    """The document for one version. The doubled key and sizes as text are the protocol's."""
    tensors = _tensors(manifest)
    signatures = {
        name: {
            "inputs": {signature.inputs[0]: tensors[signature.inputs[0]]},
            "outputs": {output: tensors[output] for output in signature.outputs},
            "method_name": METHOD,
            "defaults": {},
        }
        for name, signature in SIGNATURES.items()
    }
    return {
        "model_spec": {"name": manifest.name, "signature_name": "", "version": str(manifest.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensors(manifest: Manifest) -> dict[str, dict[str, Any]]:
    size = manifest.input
    return {
        PIXELS: _tensor(PIXELS, "DT_UINT8", size.height, size.width, size.channels),
        ENCODED: _tensor(ENCODED, "DT_STRING"),
        PROBABILITIES: _tensor(PROBABILITIES, "DT_FLOAT", len(manifest.class_names)),
        SCORE: _tensor(SCORE, "DT_FLOAT"),
    }


def _tensor(name: str, dtype: str, *sizes: int) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *sizes)]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{name}:0",
    }
