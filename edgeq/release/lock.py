"""edgeq.lock: what a release was made from and what it consists of, so that it can be checked and made again.

Two parts, because they answer two questions.
- `recipe`: hashes of the inputs, every option and seed, versions, hashes of the artefacts. The same inputs give the
  same recipe, byte for byte, in any folder, with any number of threads, on any CPU of one kind (the calibration runs in
  floating point, which CPUs with other vector units may sum in another order). `recipe_digest` is its SHA-256: the one
  string to publish or sign.
- `records`: hashes of the report's files, and the CPU features they were measured on. Times differ from run to run, so
  these differ too.
`lock_digest` covers all the rest, so that a changed lock is noticed; only a signature tells who wrote it. There are no
paths, host names, user names or timestamps.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import DataError
from edgeq.release.hashing import sha256_of_json
from edgeq.release.release import Release

LOCK_NAME, SIGNATURE_NAME = "edgeq.lock", "edgeq.lock.sig"
LOCK_VERSION = 1


def lock_text(release: Release, inputs: Mapping[str, str], records: Mapping[str, str]) -> str:
    """The lock file.

    Args:
        release: what was released.
        inputs: role (model, calibration, evaluation, labels ...) -> SHA-256 of what was read.
        records: name of every other file in the folder -> SHA-256.
    """
    recipe = {
        "model": release.model,
        "bits": release.bits,
        "inputs": dict(inputs),
        "options": dict(release.options),
        "versions": dict(release.versions),
        "artifacts": {a.name: {"sha256": a.sha256, "size_bytes": a.size_bytes} for a in release.artifacts},
    }
    measured = {
        m.device.profile: {
            "artifact": m.artifact,
            "runtime": m.device.runtime,
            "version": m.device.version,
            "machine": m.device.machine,
            "cpu": m.device.cpu,
            "cpu_features": list(m.device.cpu_features),
            "threads": m.device.threads,
        }
        for m in release.measurements
    }
    content = {
        "lock_version": LOCK_VERSION,
        "recipe": recipe,
        "recipe_digest": sha256_of_json(recipe),
        "measured_on": measured,
        "records": dict(records),
    }
    content["lock_digest"] = sha256_of_json(content)
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_lock(folder: Path) -> dict[str, Any]:
    """Read and check a release's lock file by itself.

    Raises:
        DataError: it is missing, unreadable, of another version, or was changed after it was written.
    """
    path = folder / LOCK_NAME
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: no lock file ({error.strerror}); this is not a whole release") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); the lock file was damaged") from error
    if not isinstance(content, dict) or content.get("lock_version") != LOCK_VERSION:
        raise DataError(f"{path}: not a lock file of version {LOCK_VERSION}; use the edgeq that wrote it")
    without = {name: value for name, value in content.items() if name != "lock_digest"}
    if content.get("lock_digest") != sha256_of_json(without):
        raise DataError(f"{path}: was changed after it was written (its own digest does not match)")
    if content.get("recipe_digest") != sha256_of_json(content.get("recipe")):
        raise DataError(f"{path}: the recipe's digest does not match the recipe")
    return content
