"""Post-training quantization, ours and every peer that installs: same model, samples and test set, in one run.

    python benchmarks/peers.py                                        # all cells; results/peers.md, .json and the docs
    python benchmarks/peers.py --model resnet20 --bits "w4a8 fl8" --only edgeq brevitas    # a part; merged into both
    python benchmarks/peers.py --only edgeq:auto aimet:adaround --missing                  # rows that are not there yet
    python benchmarks/peers.py --tables                               # write the tables anew from the results

Every row is a fresh process in that peer's own environment (``peers/environments.py`` makes them), on one core: it
calibrates on the same unlabelled samples, and its file is judged by the same onnxruntime on the whole test set (its
simulation where it has no file that runs: the table says so; without onnxruntime's optimizations where they break a
file of 4-bit activations, likewise said). "fl8": first and last layer at 8 bits, weights, inputs
and outputs. CPU seconds are of the quantization alone; peak memory is the process's at its end, in parentheses before
it (interpreter, libraries, model and samples). The p is McNemar's, exact, against ``edgeq auto`` on the same images.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from assets import CASES, FOLDER, Case
from peers.environments import UnavailableError, python, versions
from peers.tables import DOCS, rewrite, summary, table
from top1 import accuracy, packed, right, scores

import edgeq

RESULTS = Path(__file__).parent / "results"
BITS = ("w8a8", "w4a8", "w4a8 fl8", "w4a4 fl8", "w3a8 fl8", "w2a8 fl8")
SAMPLES = 512
_OWN = {"edgeq": edgeq.__version__, "onnxruntime": onnxruntime.__version__}
#: So much better must a file be without onnxruntime's optimizations to be judged so.
_NOISE = 0.02
_WITHOUT = ("unsupported", "failed")


@dataclass(frozen=True)
class Peer:
    """A tool.

    Attributes:
        name: in the tables.
        script: in benchmarks/peers.
        environment: a name of ``peers.environments``, or None for edgeq's own.
        methods: of the script.
    """

    name: str
    script: str
    environment: str | None
    methods: tuple[str, ...]


PEERS = (
    Peer("edgeq", "edgeq_methods", None, ("auto", "nearest", "gptq+variance", "adaround")),
    Peer("onnxruntime", "onnxruntime_static", None, ("minmax", "percentile", "entropy")),
    Peer("nncf", "nncf_onnx", "nncf", ("performance", "mixed", "full bias correction")),
    Peer("aimet", "aimet_sim", "aimet", ("nearest", "cle", "adaround")),
    Peer("torchao", "torchao_pt2e", "torchao", ("nearest",)),
    Peer("brevitas", "brevitas_ptq", "brevitas", ("nearest", "gptq", "gptq+mse+bias")),
    Peer("mct", "mct_ptq", "mct", ("nearest", "gptq")),
)

_CIFAR = FOLDER / "cifar_resnet.py"
#: Models that the torch peers have as a module: file, function, weights.
FACTORIES = {
    "resnet20": (_CIFAR, "resnet20", FOLDER / "cifar_resnet_weights" / "resnet20.pt"),
    "resnet56": (_CIFAR, "resnet56", FOLDER / "cifar_resnet_weights" / "resnet56.pt"),
    "kws_dscnn": (Path(__file__).parent / "peers" / "ds_cnn.py", "ds_cnn", FOLDER / "kws_dscnn" / "kws_dscnn.onnx"),
}


def main() -> None:
    """Fill the cells that are asked for, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=[case.name for case in CASES], default=["resnet20", "kws_dscnn"])
    parser.add_argument("--bits", nargs="+", default=list(BITS), help="for example w4a8, or 'w4a8 fl8'")
    parser.add_argument("--only", nargs="+", help="peers, or peer:method")
    parser.add_argument("--missing", action="store_true", help="leave rows alone that are there and did not fail")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core that rows run on")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables")
    arguments = parser.parse_args()
    for case in CASES if not arguments.tables else ():
        if case.name in arguments.model:
            _fill(case, arguments)
    with _results() as results:
        results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"


def _fill(case: Case, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths, labels = _samples(case, Path(folder))
        with _results() as results:
            known = case.name in results
        if not known:
            floating = accuracy(Path(case.model).read_bytes(), np.load(paths[1])["x"], labels)
            facts = {"samples": len(np.load(paths[0])["x"]), "images": len(labels), "float": floating}
            with _results() as results:
                results[case.name] = {"rows": {}} | facts
        for bits in arguments.bits:
            for peer, method in _wanted(arguments.only):
                key = f"{bits}|{peer.name}|{method}"
                with _results() as results:
                    row = results[case.name]["rows"].get(key)
                if arguments.missing and row is not None and "failed" not in row:
                    continue
                row = _row(case, paths, labels, bits, peer, method, arguments.core)
                print(case.name, key, json.dumps({k: v for k, v in row.items() if k != "right"}), flush=True)
                with _results() as results:
                    results[case.name]["rows"][key] = row


@contextlib.contextmanager
def _results() -> Iterator[dict[str, Any]]:
    """The results, written back with the tables made of them; several runs may fill one table."""
    path = RESULTS / "peers.json"
    with (Path(tempfile.gettempdir()) / "edgeq-peers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = json.dumps(results, sort_keys=True)
        yield results
        if json.dumps(results, sort_keys=True) != before:
            path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(table(results), encoding="utf-8")
        rewrite(DOCS, summary(results))


def _wanted(only: list[str] | None) -> list[tuple[Peer, str]]:
    """Peers with methods; a method that is named need not be among the defaults."""
    if only is None:
        return [(peer, method) for peer in PEERS for method in peer.methods]
    found = []
    for text in only:
        name, _, method = text.partition(":")
        peer = next((p for p in PEERS if p.name == name), None)
        if peer is None:
            sys.exit(f"--only {text}: choose from {', '.join(p.name for p in PEERS)}, perhaps with :method")
        found += [(peer, m) for m in ([method] if method else peer.methods)]
    return found


def _samples(case: Case, folder: Path) -> tuple[tuple[Path, Path], np.ndarray[Any, Any]]:
    """Calibration samples without labels, and the test set with them."""
    calibration, evaluation = case.data()
    x = calibration["x"]
    paths = folder / "calibration.npz", folder / "evaluation.npz"
    np.savez(paths[0], x=x[np.sort(np.random.default_rng(0).permutation(len(x))[:SAMPLES])])
    np.savez(paths[1], x=evaluation["x"])
    return paths, evaluation["y"]


def _row(
    case: Case, paths: tuple[Path, Path], labels: np.ndarray[Any, Any], bits: str, peer: Peer, method: str, core: int
) -> dict[str, Any]:
    """One measurement, or why there is none."""
    width, _, ends = bits.partition(" ")
    weights, activations = (int(part) for part in width.removeprefix("w").split("a"))
    with tempfile.TemporaryDirectory() as folder:
        factory = FACTORIES.get(case.name)
        job = {
            "model": str(case.model), "factory": factory and [str(part) for part in factory],
            "calibration": str(paths[0]), "evaluation": str(paths[1]), "weights": weights,
            "activations": activations, "ends": bool(ends), "method": method, "output": folder,
        }  # fmt: skip
        try:
            found = _answer(peer, job, Path(folder), core)
            version = next(iter(versions(peer.environment).values())) if peer.environment else _OWN[peer.name]
        except UnavailableError as error:
            return {"failed": f"does not install: {error}"}
        if not found.keys().isdisjoint(_WITHOUT):
            return found
        row = {key: found[key] for key in ("seconds", "peak", "base", "note")} | {"version": version}
        try:
            return row | _judged(found, job, labels)
        except Exception as error:  # the peer's file may fail in onnxruntime in any way; its first line says how
            return {"failed": f"its file does not run: {str(error).splitlines()[0][:160]}"}


def _judged(found: dict[str, Any], job: dict[str, Any], labels: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Top-1 of the file or of the simulation; onnxruntime's optimizations break some files of 4-bit activations."""
    if found["file"] is None:
        decided = right(np.load(found["scores"])["scores"], labels)
        return {"top1": float(decided.mean()), "right": packed(decided), "file kB": None}
    data, x = Path(found["file"]).read_bytes(), np.load(job["evaluation"])["x"]
    ways = {"": right(scores(data, x), labels)}
    if job["activations"] < 8:
        ways["optimizations off"] = right(scores(data, x, optimized=False), labels)
    how = max(ways, key=lambda way: ways[way].mean() - bool(way) * _NOISE)
    row = {"top1": float(ways[how].mean()), "right": packed(ways[how]), "file kB": len(data) / 1e3}
    return row | ({"note": f"{how}; with them {ways[''].mean() * 100:.2f}"} if how else {})


def _answer(peer: Peer, job: dict[str, Any], folder: Path, core: int) -> dict[str, Any]:
    """What the peer's script says."""
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    interpreter = Path(sys.executable) if peer.environment is None else python(peer.environment)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = subprocess.run(
        [interpreter, "-m", f"peers.{peer.script}", folder / "job.json"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
        env=os.environ | threads | {"PYTHONPATH": str(Path(__file__).parents[1])},
        # Some peers start as many threads as there are cores and spin in them: they see one.
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    if run.returncode != 0 or not run.stdout.strip():
        told = [line for line in run.stderr.splitlines() if "Error" in line] or [f"exit code {run.returncode}"]
        print(run.stderr, file=sys.stderr)
        return {"failed": told[-1].strip()[:200]}
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
