"""Which of LiteRT's kernels the TFLite export writes, which not and why; which executed ONNX ops it refuses and why.

    python benchmarks/litert_kernels.py      # writes the section "Kernels" of docs/tflite.md

Whether LiteRT has a kernel is asked of LiteRT itself: a file with that one op loads or does not. Whether the export
writes it is read from the exporter's code. A kernel or op that is neither written nor given a reason here is an error.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import interpreter as litert

from edgeq.exporters.tflite.ops import OPS as TFLITE_OPS
from edgeq.exporters.tflite.schema import OPERATOR_NAMES, S
from edgeq.graph.ops import OPS, microsoft_integer, quantization
from edgeq.graph.passes.expand_functions import EXPANDED

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "tflite.md"
_BEGIN, _END = "<!-- kernels: written by benchmarks/litert_kernels.py -->", "<!-- kernels: end -->"

#: Kernels that are not written, by reason.
UNWRITTEN: Mapping[str, str] = {
    "another kernel that is written does the same": (
        "ADD_N EXPAND_DIMS L2_NORMALIZATION L2_POOL_2D PACK RELU_0_TO_1 SELECT SQUEEZE UNPACK REVERSE_V2 "
        "BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND DILATE REDUCE_WINDOW DYNAMIC_UPDATE_SLICE REDUCE_ANY REDUCE_ALL "
        "STABLEHLO_ADD STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_AND STABLEHLO_GATHER "
        "STABLEHLO_SCATTER STABLEHLO_PAD STABLEHLO_REDUCE_WINDOW"
    ),
    "what it computes follows from shapes and constants, and is a constant of the file": (
        "BROADCAST_ARGS FILL RANGE RANK SHAPE ZEROS_LIKE"
    ),
    "its reference kernel is wrong (see above), so it is written out": "LOCAL_RESPONSE_NORMALIZATION",
    "recurrent cells are written out step by step, in ONNX's order of gates": (
        "BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN LSTM RNN SVDF UNIDIRECTIONAL_SEQUENCE_LSTM "
        "UNIDIRECTIONAL_SEQUENCE_RNN"
    ),
    "the size of its result depends on the data; the file's shapes are fixed": (
        "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 UNIQUE WHERE"
    ),
    "control flow and state: edgeq quantizes graphs without": (
        "ASSIGN_VARIABLE CALL_ONCE IF READ_VARIABLE STABLEHLO_CASE STABLEHLO_COMPOSITE VAR_HANDLE WHILE"
    ),
    "no ONNX op that edgeq executes means it": (
        "BUCKETIZE DENSIFY EMBEDDING_LOOKUP EMBEDDING_LOOKUP_SPARSE FAKE_QUANT FLOOR_DIV HASHTABLE HASHTABLE_FIND "
        "HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE LSH_PROJECTION MATRIX_DIAG MATRIX_SET_DIAG MULTINOMIAL "
        "RANDOM_STANDARD_NORMAL RANDOM_UNIFORM SEGMENT_SUM SKIP_GRAM SPARSE_TO_DENSE STABLEHLO_RNG_BIT_GENERATOR "
        "UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM"
    ),
    "LiteRT could run it and the export does not write it": (
        "BITCAST BITWISE_XOR COMPLEX_ABS CONV_3D_TRANSPOSE IMAG REAL RFFT2D RIGHT_SHIFT STABLEHLO_SHIFT_LEFT"
    ),
}  # fmt: skip

#: ONNX ops that edgeq executes and the export refuses, by reason.
REFUSED: Mapping[str, str] = {
    "its result follows from shapes and constants; a graph that reads it has it folded": (
        "BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix Range Shape Size"
    ),
    "the size of its result depends on the data": "Compress NonMaxSuppression NonZero Unique",
    "LiteRT has no kernel for it, nor a few that make it": (
        "AffineGrid Col2Im CumProd DeformConv Det GridSample LinearAttention MaxUnpool RoiAlign TensorScatter"
    ),
    "integer arithmetic on bits: LiteRT has XOR and the right shift alone": (
        "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor"
    ),
    "complex numbers": "DFT STFT",
    "an element may be written more than once, which is ScatterND's case too": "Scatter ScatterElements",
    "not written yet; the passes leave it whole": "Einsum LpPool Mean",
}


def main() -> None:
    """Ask, check and write."""
    having = kernels()
    literals = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "exporters" / "tflite").rglob("*.py"))
    quoted = set(re.findall(r'"([A-Z0-9_]+)"', literals)) - TFLITE_OPS.keys()
    written = sorted(having & quoted)
    unwritten = _sorted_out(having - quoted, UNWRITTEN, "kernel")
    takes_codes = quantization.OPS.keys() | microsoft_integer.OPS.keys()
    whole = {op for domain, op in OPS if not domain and (domain, op) not in takes_codes}
    refused = _sorted_out(whole - TFLITE_OPS.keys() - set(EXPANDED), REFUSED, "ONNX op")
    lines = [
        _BEGIN,
        f"Of LiteRT's {len(having)} builtin kernels the export writes {len(written)}: {_code(written)}.",
        "",
        "Not written:",
        "",
        *(f"- {reason}: {_code(names)}." for reason, names in unwritten.items()),
        "",
        f"Of the {len(whole)} ops of the standard that edgeq executes, those that take codes aside, the export writes "
        f"{len(whole & TFLITE_OPS.keys())}, and {len(whole & set(EXPANDED))} more as the ops that the standard defines "
        "them by. Refused in one line:",
        "",
        *(f"- {reason}: {_code(names)}." for reason, names in refused.items()),
        _END,
    ]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    DOCUMENT.write_text(before + "\n".join(lines) + rest.partition(_END)[2], encoding="utf-8")
    print(f"{len(written)} of {len(having)} kernels; {len(refused)} reasons for refused ops; {DOCUMENT} written")


def kernels() -> set[str]:
    """The builtin ops that LiteRT's own resolver knows."""
    found = set()
    for code, name in OPERATOR_NAMES.items():
        if name in ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            continue
        try:
            litert.Interpreter(
                model_content=_file(code),
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        except ValueError as error:
            # An op that is known but lacks its options is refused in other words.
            if "Didn't find op" in str(error):
                continue
        found.add(name)
    return found


def _file(code: int) -> bytes:
    def made(kind: str, **fields: Any) -> Any:
        result = getattr(S, f"{kind}T")()
        for key, value in fields.items():
            setattr(result, key, value)
        return result

    tensors = [made("Tensor", name=name, shape=[1], type=S.TensorType.FLOAT32, buffer=0) for name in ("x", "y")]
    operator = made("Operator", opcodeIndex=0, inputs=[0], outputs=[1])
    graph = made("SubGraph", tensors=tensors, inputs=[0], outputs=[1], operators=[operator])
    deprecated = min(code, S.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    opcode = made("OperatorCode", builtinCode=code, deprecatedBuiltinCode=deprecated, version=1)
    model = made("Model", version=3, operatorCodes=[opcode], subgraphs=[graph], buffers=[made("Buffer")])
    builder = flatbuffers.Builder(512)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _sorted_out(names: set[str], reasons: Mapping[str, str], what: str) -> dict[str, list[str]]:
    """The names under their reasons; each must have one, and only they may."""
    given = {name: reason for reason, listed in reasons.items() for name in listed.split()}
    if unknown := sorted(names - given.keys()):
        raise SystemExit(f"{what} without a reason: {' '.join(unknown)}")
    if stale := sorted(given.keys() - names):
        raise SystemExit(f"{what} with a reason, but written or absent: {' '.join(stale)}")
    return {reason: sorted(name for name in listed.split()) for reason, listed in reasons.items()}


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    main()
