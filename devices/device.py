"""A device in use: artefacts are loaded into its runtime, run over samples, and timed.

Everything happens in the agent's process (:mod:`edgeq.devices.process`). If that dies, the call that was under way
fails with a DeviceError, and the next one starts the agent anew and loads its artefacts again; a connection that merely
broke is made anew within the call, and a transfer goes on where it stopped.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.devices import latency
from edgeq.devices.agent import PROTOCOL
from edgeq.devices.artifact import Artifact, read_artifact
from edgeq.devices.op_profile import OpProfile, from_litert, from_onnxruntime
from edgeq.devices.process import AgentProcess, ConnectionLostError, RefusedError
from edgeq.devices.profile import Profile, check_fits
from edgeq.devices.samples import Arrays, Handle, Tensor, fit, one_sample, requests, tflite_names
from edgeq.devices.transports.transport import Transport
from edgeq.errors import DeviceError, UsageError
from edgeq.measurement import DeviceInfo, Latency, LatencyComparison

#: Bytes of a chunk of an artefact.
_CHUNK = 1 << 20
_PAUSE_S = 0.5


class Device:
    """An open device; use it as a context manager. Made by :func:`edgeq.devices.open_device`."""

    def __init__(self, profile: Profile, transport: Transport) -> None:
        self.profile = profile
        self._transport = transport
        self._process: AgentProcess | None = None
        self._loaded: dict[Handle, str] = {}
        self._info: DeviceInfo | None = None
        self._numbers = itertools.count()
        self.facts: Mapping[str, Any] = {}

    # ---- life

    def __enter__(self) -> "Device":
        self._retrying(self._connected, "connecting")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the agent; a later call would start it anew."""
        if self._process is not None:
            self._process.close()
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._process = None
        self._loaded = {}

    @property
    def info(self) -> DeviceInfo:
        """Where and by what things run here."""
        if self._info is None:
            self._retrying(self._connected, "connecting")
        assert self._info is not None
        return self._info

    def _connected(self) -> AgentProcess:
        if self._process is not None and self._process.alive:
            return self._process
        self._forget()
        profile = self.profile
        process = AgentProcess(self._transport, profile.runtime, profile.name, max(60.0, profile.transport.timeout_s))
        try:
            facts, _ = process.request(
                {"command": "hello", "protocol": PROTOCOL, "affinity": list(profile.affinity)},
                timeout=profile.transport.timeout_s,
                doing="greeting the device",
            )
            check_fits(profile, facts["version"], facts["machine"]["machine"])
        except BaseException:
            process.kill()
            raise
        machine = facts["machine"]
        self.facts = facts
        self._info = DeviceInfo(
            profile=profile.name,
            runtime=profile.runtime,
            version=facts["version"],
            machine=machine["machine"],
            cpu=machine["cpu"],
            cpu_features=tuple(machine["cpu_features"]),
            threads=profile.threads,
            memory_bytes=machine["memory_bytes"],
        )
        self._process = process
        return process

    def _retrying(self, work: Callable[[], Any], doing: str) -> Any:
        """Do it, and once more after each time that the connection broke, as often as the profile says."""
        for left in reversed(range(self.profile.transport.retries + 1)):
            try:
                return work()
            except RefusedError:
                raise
            except ConnectionLostError:
                self._forget()
                if not left:
                    raise
                time.sleep(_PAUSE_S)
            except DeviceError:
                self._forget()
                raise
        raise AssertionError(doing)

    def _ask(self, header: dict[str, Any], arrays: Arrays | None, doing: str) -> tuple[dict[str, Any], Arrays]:
        return self._connected().request(header, arrays, timeout=self.profile.transport.timeout_s, doing=doing)

    # ---- artefacts

    def load(
        self, artifact: Artifact | bytes | Path, *, name: str = "", profiling: bool = False, **options: Any
    ) -> Handle:
        """Load an artefact into the runtime.

        Args:
            artifact: the file, or its bytes, or its bytes with what lies beside it.
            name: for messages; the file's name if not given.
            profiling: let the runtime record times per op, which costs speed.
            options: threads, delegate, optimization, config or arena_bytes, each instead of the profile's.

        Raises:
            UsageError: there is no such option.
            ModelError: the file, or external data of it, cannot be read.
            DeviceError: the runtime refuses it, or crashes on it.
        """
        if isinstance(artifact, Path):
            name = name or artifact.name
            artifact = read_artifact(artifact)
        elif isinstance(artifact, bytes):
            artifact = Artifact(artifact)
        defaults = ("threads", "delegate", "optimization", "config", "arena_bytes")
        if unknown := sorted(set(options) - set(defaults)):
            raise UsageError(f"load: no option {unknown[0]!r}; there are {', '.join(defaults)}")
        chosen = {key: options.get(key, getattr(self.profile, key)) for key in defaults} | {"profile": profiling}
        if self.profile.runtime == "tflite-micro":
            chosen["names"] = tflite_names(artifact.data, f"{self.profile.name}: while loading {name or 'the model'}")
        handle = Handle(name or "the model", artifact, chosen, (), ())
        reply: dict[str, Any] = self._retrying(partial(self._place, handle), "loading")
        tensors = (tuple(_tensor(item) for item in reply[kind]) for kind in ("inputs", "outputs"))
        complete = Handle(handle.name, artifact, chosen, *tensors)
        self._loaded[complete] = self._loaded.pop(handle)
        return complete

    def _place(self, handle: Handle) -> dict[str, Any]:
        """Send the artefact and have it loaded."""
        artifact = handle.artifact
        sha256 = artifact.data_sha256
        self._send(handle.name, np.frombuffer(artifact.data, np.uint8), sha256)
        identity = f"{next(self._numbers)}-{sha256[:8]}"
        header = {"command": "load", "handle": identity, "sha256": sha256, "options": dict(handle.options)}
        if artifact.folder is not None and self._transport.sees_files():
            header["folder"] = str(artifact.folder.resolve())
        elif artifact.beside:
            for file, digest in artifact.beside_sha256.items():
                self._send(f"{file} of {handle.name}", np.memmap(artifact.path(file), np.uint8, "r"), digest)
            header["beside"] = dict(artifact.beside_sha256)
        reply, _ = self._ask(header, None, f"loading {handle.name}")
        self._loaded[handle] = identity
        return reply

    def _send(self, name: str, data: npt.NDArray[np.uint8], sha256: str) -> None:
        doing = f"sending {name}"
        received = int(self._ask({"command": "begin", "sha256": sha256}, None, doing)[0]["received"])
        if received < 0:
            return
        received = received if received <= data.size else 0
        for offset in range(received, data.size, _CHUNK):
            header = {"command": "chunk", "sha256": sha256, "offset": offset}
            self._ask(header, {"chunk": data[offset : offset + _CHUNK]}, doing)
        self._ask({"command": "end", "sha256": sha256}, None, doing)

    def _identity(self, handle: Handle) -> str:
        self._connected()
        if handle not in self._loaded:
            self._place(handle)
        return self._loaded[handle]

    def unload(self, handle: Handle) -> None:
        """Let the runtime forget an artefact."""
        identity = self._loaded.pop(handle, None)
        if identity is not None and self._process is not None and self._process.alive:
            self._ask({"command": "unload", "handle": identity}, None, f"unloading {handle.name}")

    # ---- running

    def run(self, handle: Handle, inputs: Mapping[str, npt.NDArray[Any]], *, raw: bool = False) -> Arrays:
        """The outputs for all samples.

        Args:
            handle: from :meth:`load`.
            inputs: by the model's input names; samples in the first dimension, in the file's own layout. Real values
                for a quantized input are quantized here; codes are taken as they are.
            raw: leave quantized outputs as codes, instead of real values.

        Returns:
            by the model's output names; samples in the first dimension.

        Raises:
            DataError: the inputs do not fit the model.
            DeviceError: the device failed, or an output holds NaN or infinity.
        """
        fitted = fit(handle, inputs)
        parts: dict[str, list[npt.NDArray[Any]]] = {tensor.name: [] for tensor in handle.outputs}
        doing = f"running {handle.name}"
        for chunk in requests(handle, fitted):
            outputs = self._retrying(partial(self._run_chunk, handle, chunk, doing), doing)
            for name, value in outputs.items():
                parts[name].append(value)
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        for name, value in joined.items():
            self._check_finite(handle, name, value)
        return joined if raw else {name: _real(handle.output(name), value) for name, value in joined.items()}

    def _run_chunk(self, handle: Handle, chunk: Arrays, doing: str) -> Arrays:
        return self._ask({"command": "run", "handle": self._identity(handle)}, chunk, doing)[1]

    def _check_finite(self, handle: Handle, name: str, value: npt.NDArray[Any]) -> None:
        if not np.issubdtype(value.dtype, np.floating) or np.isfinite(value).all():
            return
        bad = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(axis=1))
        raise DeviceError(
            f"{self.profile.name}: output {name!r} of {handle.name} is NaN or infinite for {bad.size} of {len(value)} "
            f"samples, first for sample {bad[0]}; its kernels do not support this model, try another profile"
        )

    # ---- timing

    def compare_latency(
        self,
        reference: Handle,
        candidate: Handle,
        sample: Mapping[str, npt.NDArray[Any]] | None = None,
        runs: int = 300,
        *,
        candidate_sample: Mapping[str, npt.NDArray[Any]] | None = None,
        warm_up: int = 10,
        processes: int = 5,
        seed: int = 0,
    ) -> LatencyComparison:
        """Time two artefacts in turn (A B A B), in one process at a time and several processes one after the other.

        Args:
            reference: usually the float model.
            candidate: usually the integer one.
            sample: one sample with its first dimension, by input names; None makes seeded random ones.
            runs: pairs of runs in all, spread over the processes.
            candidate_sample: where the candidate's layout or names differ.
            warm_up: runs that are not counted, in each process.
            processes: fresh processes to spread the runs over; their differences enter the interval.
            seed: of the random sample and of the bootstrap.

        Raises:
            DataError: a sample does not fit.
            DeviceError: the device failed.
        """
        handles = (reference, candidate)
        samples = (
            one_sample(reference, sample, seed),
            one_sample(candidate, candidate_sample if candidate_sample is not None else sample, seed),
        )
        rounds, summary = self._time_all(handles, samples, runs, warm_up, processes)
        return LatencyComparison(summary[0], summary[1], latency.ratio(rounds, seed=seed))

    def latency(
        self,
        handle: Handle,
        sample: Mapping[str, npt.NDArray[Any]] | None = None,
        runs: int = 300,
        *,
        warm_up: int = 10,
        processes: int = 5,
    ) -> Latency:
        """The latency of one artefact alone; see :meth:`compare_latency`."""
        return self._time_all((handle,), (one_sample(handle, sample, 0),), runs, warm_up, processes)[1][0]

    def _time_all(
        self, handles: tuple[Handle, ...], samples: tuple[Arrays, ...], runs: int, warm_up: int, processes: int
    ) -> tuple[list[npt.NDArray[np.int64]], list[Latency]]:
        """The raw nanoseconds of each process, (runs, artefacts), and each artefact's summary over all."""
        costs = [self._cost(handle, one) for handle, one in zip(handles, samples, strict=True)]
        arrays = {f"{i}/{name}": a for i, one in enumerate(samples) for name, a in one.items()}
        each = max(1, -(-runs // processes))
        rounds = []
        for number in range(processes):
            self.close()
            order = handles if number % 2 == 0 else handles[::-1]
            rounds.append(self._retrying(partial(self._time, handles, order, arrays, warm_up, each), "timing"))
        times = np.concatenate(rounds)
        summary = [
            Latency(*latency.median_and_p90(times[:, i]), len(times), start_up, memory)
            for i, (start_up, memory) in enumerate(costs)
        ]
        return rounds, summary

    def _time(
        self, handles: tuple[Handle, ...], order: tuple[Handle, ...], arrays: Arrays, warm_up: int, runs: int
    ) -> npt.NDArray[np.int64]:
        for handle in order:
            self._identity(handle)
        names = [self._identity(handle) for handle in handles]
        header = {"command": "time", "handles": names, "warm_up": warm_up, "runs": runs}
        doing = " and ".join(f"timing {handle.name}" for handle in handles)
        return self._ask(header, arrays, doing)[1]["nanoseconds"]

    def _cost(self, handle: Handle, sample: Arrays) -> tuple[float, int]:
        """Milliseconds from loading to the first result, and the bytes that it needs.

        The bytes are what a fresh process gains at its peak; of TFLite Micro the part of the arena that is used.
        """
        self.close()

        def work() -> tuple[float, int]:
            loaded = self._place(handle)
            doing = f"running {handle.name} for the first time"
            first, _ = self._ask({"command": "run", "handle": self._loaded[handle]}, sample, doing)
            start_up = (loaded["load_ns"] + first["run_ns"]) / 1e6
            return start_up, loaded["arena_bytes"] or first["memory_peak"] - loaded["memory_before"]

        result: tuple[float, int] = self._retrying(work, "starting up")
        return result

    def count(self, handle: Handle, *, runs: int, warm_up: int) -> None:
        """Run on random input with marks for an emulator that counts; see :mod:`edgeq.devices.instructions`.

        Raises:
            DeviceError: the device failed.
        """
        header = {"command": "count", "handle": self._identity(handle), "warm_up": warm_up, "runs": runs}
        self._ask(header, one_sample(handle, None, 0), f"counting the instructions of {handle.name}")

    def op_profile(
        self, handle: Handle, sample: Mapping[str, npt.NDArray[Any]] | None = None, runs: int = 50
    ) -> OpProfile:
        """Where the time of one inference goes, by the runtime's own profiler.

        Args:
            handle: from :meth:`load`.
            sample: one sample with its first dimension; None makes seeded random ones.
            runs: how many inferences to average over.

        Raises:
            DeviceError: the runtime gives no such profile, or the device failed.
        """
        profiled = self.load(handle.artifact, name=handle.name, profiling=True, **_without_profile(handle.options))
        header = {"command": "profile", "handle": self._identity(profiled), "runs": runs}
        try:
            _, told = self._ask(header, one_sample(handle, sample, 0), f"profiling {handle.name}")
        finally:
            self._loaded.pop(profiled, None)
        text = told["profile"].tobytes().decode()
        return (
            from_onnxruntime(text) if self.profile.runtime == "onnxruntime" else from_litert(text, handle.artifact.data)
        )


def _without_profile(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in ("profile", "names")}


def _tensor(item: Mapping[str, Any]) -> Tensor:
    dtype = np.dtype(item["dtype"]).name
    return Tensor(item["name"], dtype, tuple(item["shape"]), item["scale"], item["zero_point"])


def _real(tensor: Tensor, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return tensor.real(value) if tensor.scale else value
