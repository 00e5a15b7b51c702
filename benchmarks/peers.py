"""Post-training quantization, ours and every peer that installs: same model, samples and test set, in one run.

    python benchmarks/peers.py                                        # all cells; results/peers.md, .json and the docs
    python benchmarks/peers.py --model resnet20 --bits "w4a8 fl8" --only edgeq brevitas    # a part; merged into both
    python benchmarks/peers.py --only edgeq:auto aimet:adaround --missing                  # rows that are not there yet
    python benchmarks/peers.py --tables                               # write the tables anew from the results
    python benchmarks/peers.py --merge OTHER.json                     # rows of another run of this command

Every row is a fresh process in that peer's own environment (``peers/environments.py`` makes them), on one core: it
calibrates on the same unlabelled samples, and its file is judged by the same onnxruntime on the whole test set (its
simulation where it has no file that runs: the table says so; without onnxruntime's optimizations where they break a
file of 4-bit activations, likewise said). "fl8": first and last layer at 8 bits, weights, inputs and outputs; "w4":
weights alone, "w4b32": with a scale for each 32 inputs. CPU seconds are of the quantization alone; peak memory is the
process's at its end, in parentheses before it (interpreter, libraries, model and samples). The p is McNemar's, exact,
against ``edgeq auto`` on the same samples; of the paired t-test where a score is not right or wrong. A row that takes
more CPU than ``--limit`` is given up and says so.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from peers.contract import Batch, parts
from peers.environments import UnavailableError, python, versions
from peers.metrics import Array, Metric, Scores
from peers.subjects import NAMES, SAMPLES, Subject, prepared, subject
from peers.tables import DOCS, rewrite, summary, table

import edgeq
from edgeq.plan.bits import Bits

RESULTS = Path(__file__).parent / "results"
BITS = ("w8a8", "w4a8", "w4a8 fl8", "w4a4 fl8", "w3a8 fl8", "w2a8 fl8", "w4", "w3", "w2", "w4b32")
_OWN = {"edgeq": edgeq.__version__, "onnxruntime": onnxruntime.__version__}
#: So much better must a file be without onnxruntime's optimizations to be judged so.
_NOISE = 0.02
#: Samples on which a module is compared with the file.
_COMPARED = 4
_WITHOUT = ("unsupported", "failed")


@dataclass(frozen=True)
class Peer:
    """A tool, or the part of it that a script drives.

    Attributes:
        name: in the tables.
        script: in benchmarks/peers.
        environment: a name of ``peers.environments``, or None for edgeq's own.
        methods: of the script.
        weights: weight-only formats are its script's.
        activations: formats with integer activations are.
        blocks: blocks of weights with a scale of their own too.
    """

    name: str
    script: str
    environment: str | None
    methods: tuple[str, ...]
    weights: bool = False
    activations: bool = True
    blocks: bool = False


PEERS = (
    Peer("edgeq", "edgeq_methods", None, ("auto", "nearest", "gptq+variance", "adaround"), True, True, True),
    Peer("onnxruntime", "onnxruntime_static", None, ("minmax", "percentile", "entropy")),
    Peer("onnxruntime", "onnxruntime_weights", None, ("rtn", "hqq", "gptq"), True, False, True),
    Peer("nncf", "nncf_onnx", "nncf", ("performance", "mixed", "full bias correction")),
    Peer("nncf", "nncf_weights", "nncf", ("nearest", "awq+scale"), True, False, True),
    Peer("aimet", "aimet_sim", "aimet", ("nearest", "cle", "adaround"), weights=True),
    Peer("torchao", "torchao_pt2e", "torchao", ("nearest",), weights=True),
    Peer("torchao linear", "torchao_weights", "torchao", ("nearest", "hqq", "gptq"), True, True, True),
    Peer("brevitas", "brevitas_ptq", "brevitas", ("nearest", "gptq", "gptq+mse+bias"), weights=True),
    Peer("mct", "mct_ptq", "mct", ("nearest", "gptq"), weights=True),
)


def main() -> None:
    """Fill the cells that are asked for, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=NAMES, default=["resnet20", "kws_dscnn"])
    parser.add_argument("--bits", nargs="+", default=list(BITS), help="for example w4a8, 'w4a8 fl8', or w4")
    parser.add_argument("--only", nargs="+", help="peers, or peer:method")
    parser.add_argument("--missing", action="store_true", help="leave rows alone that are there and did not fail")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core that rows run on")
    parser.add_argument("--limit", type=int, default=1200, help="CPU seconds of a row")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables")
    parser.add_argument("--merge", type=Path, help="measure nothing, take the rows of this file")
    arguments = parser.parse_args()
    with results() as found:
        found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        for name, model in json.loads(arguments.merge.read_text(encoding="utf-8")).items() if arguments.merge else ():
            if isinstance(model, dict):
                rows = found.get(name, {}).get("rows", {}) | model["rows"]
                found[name] = model | {"rows": rows}
    if not arguments.tables and not arguments.merge:
        for name in arguments.model:
            fill(subject(name), arguments)


def fill(found: Subject, arguments: argparse.Namespace) -> None:
    """All rows of a model that are asked for."""
    with tempfile.TemporaryDirectory() as folder:
        test = _Test.of(prepared(found, Path(folder)), Path(folder))
        with results() as known:
            known.setdefault(found.name, {"rows": {}}).update(test.facts())
        for bits in arguments.bits:
            for peer, method in wanted(arguments.only, bits):
                key = f"{bits}|{peer.name}|{method}"
                with results() as known:
                    row = known[found.name]["rows"].get(key)
                if arguments.missing and row is not None and "failed" not in row:
                    continue
                row = _row(test, bits, peer, method, arguments)
                print(found.name, key, json.dumps({k: v for k, v in row.items() if k != "each"}), flush=True)
                with results() as known:
                    known[found.name]["rows"][key] = row


@contextlib.contextmanager
def results() -> Iterator[dict[str, Any]]:
    """The results, written back with the tables made of them; several runs may fill one table."""
    path = RESULTS / "peers.json"
    with (Path(tempfile.gettempdir()) / "edgeq-peers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = json.dumps(found, sort_keys=True)
        yield found
        if json.dumps(found, sort_keys=True) != before:
            path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(table(found), encoding="utf-8")
        rewrite(DOCS, summary(found))


def wanted(only: list[str] | None, bits: str) -> list[tuple[Peer, str]]:
    """Peers for a format, with methods; a method that is named need not be among the defaults."""
    alone = Bits.parse(bits.partition(" ")[0]).activations is None
    peers = [peer for peer in PEERS if (peer.weights if alone else peer.activations)]
    if only is None:
        return [(peer, method) for peer in peers for method in peer.methods]
    found = []
    for text in only:
        name, _, method = text.partition(":")
        if name not in (peer.name for peer in PEERS):
            sys.exit(f"--only {text}: choose from {', '.join(p.name for p in PEERS)}, perhaps with :method")
        found += [(peer, m) for peer in peers if peer.name == name for m in ([method] if method else peer.methods)]
    return found


@dataclass(frozen=True)
class _Test:
    """A model with its samples as files, and what the float model makes of them."""

    subject: Subject
    paths: tuple[Path, Path, Path]
    evaluation: Batch
    labels: Array | None
    reference: Array

    @classmethod
    def of(cls, found: Subject, folder: Path) -> "_Test":
        """Calibration samples without labels, drawn by a seed, and the test set."""
        calibration, evaluation = found.data()
        labels = evaluation.get("y")
        names = [value.name for value in onnx.load(str(found.model)).graph.input]
        count = len(next(iter(calibration.values())))
        chosen = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLES])
        feeds = [{n: arrays[n if n in arrays else "x"] for n in names} for arrays in (calibration, evaluation)]
        feeds[0] = {name: array[chosen] for name, array in feeds[0].items()}
        paths = folder / "calibration.npz", folder / "evaluation.npz", folder / "reference.npy"
        for path, arrays in zip(paths, feeds, strict=False):
            np.savez(path, **arrays)  # type: ignore[arg-type]
        data = Path(str(found.model)).read_bytes()
        first = {name: array[:_COMPARED] for name, array in feeds[0].items()}
        np.save(paths[2], _outputs(data, first, whole=found.whole))
        reference = _outputs(data, feeds[1], whole=found.whole)
        return cls(found, paths, feeds[1], labels, reference)

    @property
    def metric(self) -> Metric:
        return self.subject.metric

    def facts(self) -> dict[str, Any]:
        """What the results say of the model itself."""
        scores = self.scores(self.reference)
        facts = {"samples": len(next(iter(np.load(self.paths[0]).values()))), "tested": len(scores)}
        return facts | {"metric": self.metric.name, "float": float(scores.mean()), "each": self.metric.packed(scores)}

    def scores(self, outputs: Array) -> Scores:
        """A score for each sample."""
        return self.metric.each(outputs, self.labels, self.reference)

    def judged(self, outputs: Array) -> dict[str, Any]:
        """The part of a row that says how good the outputs are, and of how many samples the float decision stands."""
        scores = self.scores(outputs)
        if not np.isfinite(scores).all():
            raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} samples have no finite score")
        row = {"score": float(scores.mean()), "each": self.metric.packed(scores)}
        if self.metric.share:
            row["as float"] = float((outputs.argmax(1) == self.reference.argmax(1)).mean())
        return row


def _row(test: _Test, bits: str, peer: Peer, method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement, or why there is none."""
    width, _, ends = bits.partition(" ")
    asked = Bits.parse(width)
    with tempfile.TemporaryDirectory() as folder:
        factory = test.subject.factory
        if asked.block is not None and not peer.blocks:
            return {"unsupported": "has one scale for each output channel, as it is driven here"}
        job = {
            "model": str(test.subject.model), "factory": factory and [str(part) for part in factory],
            "calibration": str(test.paths[0]), "evaluation": str(test.paths[1]), "whole": test.subject.whole,
            "weights": asked.weights, "activations": asked.activations, "block": asked.block,
            "ends": bool(ends), "method": method, "output": folder,
            "reference": str(test.paths[2]),
        }  # fmt: skip
        try:
            found = _answer(peer, job, Path(folder), arguments)
            version = next(iter(versions(peer.environment).values())) if peer.environment else _OWN[peer.name]
        except UnavailableError as error:
            return {"failed": f"does not install: {error}"}
        if not found.keys().isdisjoint(_WITHOUT):
            return found
        row = {key: found[key] for key in ("seconds", "peak", "base", "note")} | {"version": version}
        try:
            return row | _judged(found, test, coarse=(asked.activations or 8) < 8)
        except Exception as error:  # the peer's file may fail in onnxruntime in any way; its first line says how
            return {"failed": f"its file does not run: {str(error).splitlines()[0][:160]}"}


def _judged(found: dict[str, Any], test: _Test, *, coarse: bool) -> dict[str, Any]:
    """The file's score or the simulation's; onnxruntime's optimizations break some files of 4-bit activations."""
    notes = [found["note"]] if found["note"] else []
    if found["file"] is None:
        outputs, size = np.load(found["scores"])["scores"], None
        row = test.judged(outputs)
    else:
        data = Path(found["file"]).read_bytes()
        size = len(data) / 1e3
        outputs = _outputs(data, test.evaluation, whole=test.subject.whole)
        row = test.judged(outputs)
        if coarse:
            plain = _outputs(data, test.evaluation, whole=test.subject.whole, optimized=False)
            other = test.judged(plain)
            gain = other["score"] - row["score"]
            if (-gain if test.metric.less else gain) > _NOISE:
                notes.append(f"optimizations off; with them {test.metric.number(row['score'])}")
                outputs, row = plain, other
    if test.subject.told is not None:
        notes.append(test.subject.told(outputs))
    return row | {"file kB": size, "note": "; ".join(notes)}


def _outputs(model: bytes, feeds: Batch, *, whole: bool, optimized: bool = True) -> Array:
    """The first output of an ONNX file for all samples; one thread.

    Args:
        model: the file.
        feeds: the samples.
        whole: one sample is one whole input.
        optimized: with onnxruntime's graph optimizations, as it runs by default.
    """
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    # Exporters give inputs names of their own, but keep their order.
    feeds = {value.name: array for value, array in zip(session.get_inputs(), feeds.values(), strict=True)}
    size = shape[0] if isinstance(shape[0], int) and not whole else 100
    count = len(next(iter(feeds.values())))
    if count % size and isinstance(shape[0], int) and not whole:
        rest = size - count % size
        feeds = {n: np.concatenate([a, np.zeros((rest, *a.shape[1:]), a.dtype)]) for n, a in feeds.items()}
    found = [session.run(None, part)[0] for part in parts(feeds, size, whole=whole)]
    return np.concatenate(found)[:count]


def _answer(peer: Peer, job: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the peer's script says."""
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    interpreter = Path(sys.executable) if peer.environment is None else python(peer.environment)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

    def bounded() -> None:
        # Some peers start as many threads as there are cores and spin in them: they see one.
        os.sched_setaffinity(0, {arguments.core})
        resource.setrlimit(resource.RLIMIT_CPU, (arguments.limit, arguments.limit))

    run = subprocess.run(
        [interpreter, "-m", f"peers.{peer.script}", folder / "job.json"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent, preexec_fn=bounded,
        env=os.environ | threads | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    if run.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return {"failed": f"not done after {arguments.limit} CPU seconds, or killed for its memory"}
    if run.returncode != 0 or not run.stdout.strip():
        told = [line for line in run.stderr.splitlines() if "Error" in line] or [f"exit code {run.returncode}"]
        print(run.stderr[-4000:], file=sys.stderr)
        return {"failed": told[-1].strip()[:200]}
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
