"""Signing a release with an existing tool: OpenSSH's ssh-keygen -Y, over edgeq.lock, which names every other file.

Any SSH key will do. The allowed signers are a file in OpenSSH's own format: a line "NAME ssh-ed25519 AAAA..." for each.
"""

import base64
import shutil
import subprocess
from pathlib import Path

from edgeq.errors import DataError, OutputError, UsageError
from edgeq.release.lock import LOCK_NAME, SIGNATURE_NAME

_NAMESPACE = "edgeq-release"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"


def sign(folder: Path, key: Path) -> Path:
    """Sign a release with a private SSH key (or a public one whose private half an agent holds).

    Returns:
        The signature, edgeq.lock.sig in the folder.

    Raises:
        UsageError: ssh-keygen is not installed, or the key cannot be used.
        OutputError: the signature was not written.
    """
    signature = folder / SIGNATURE_NAME
    signature.unlink(missing_ok=True)
    done = _ssh_keygen("sign", "-f", str(key), "-n", _NAMESPACE, str(folder / LOCK_NAME))
    if done.returncode != 0:
        raise UsageError(f"{key}: ssh-keygen cannot sign with it: {_last_line(done)}")
    if not signature.is_file():
        raise OutputError(f"{signature}: ssh-keygen wrote no signature")
    return signature


def verify_signature(folder: Path, allowed_signers: Path, signer: str) -> None:
    """Check that an allowed signer signed the release.

    Raises:
        UsageError: ssh-keygen or the file of allowed signers is missing.
        DataError: there is no signature, or it is not that signer's for this lock file.
    """
    if not allowed_signers.is_file():
        raise UsageError(f"{allowed_signers}: no file of allowed signers")
    signature = folder / SIGNATURE_NAME
    if not signature.is_file():
        raise DataError(f"{folder}: is not signed ({SIGNATURE_NAME} is missing)")
    arguments = ("-f", str(allowed_signers), "-I", signer, "-n", _NAMESPACE, "-s", str(signature))
    done = _ssh_keygen("verify", *arguments, stdin=(folder / LOCK_NAME).read_bytes())
    if done.returncode != 0:
        raise DataError(f"{folder}: the signature is not {signer}'s for this release: {_last_line(done)}")


def signature_problem(folder: Path) -> str:
    """What is wrong with the signature itself, whoever signed; "" if nothing is, or if there is none.

    Without ssh-keygen only its form is checked.
    """
    path = folder / SIGNATURE_NAME
    if path.is_symlink() or not path.is_file():
        return f"{SIGNATURE_NAME}: is not a file" if path.is_symlink() or path.exists() else ""
    armoured = path.read_bytes().replace(b"\r\n", b"\n")
    body = armoured.removeprefix(_BEGIN).removesuffix(_END)
    if len(body) != len(armoured) - len(_BEGIN) - len(_END) or not _is_base64(body):
        return f"{SIGNATURE_NAME}: was changed, it is not one SSH signature"
    if shutil.which("ssh-keygen") is None:
        return ""
    done = _ssh_keygen("check-novalidate", "-n", _NAMESPACE, "-s", str(path), stdin=(folder / LOCK_NAME).read_bytes())
    return "" if done.returncode == 0 else f"{SIGNATURE_NAME}: is no signature of this {LOCK_NAME}"


def _is_base64(lines: bytes) -> bool:
    try:
        return bool(base64.b64decode(lines.replace(b"\n", b""), validate=True))
    except ValueError:
        return False


def _ssh_keygen(action: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    tool = shutil.which("ssh-keygen")
    if tool is None:
        raise UsageError("ssh-keygen is not installed; install OpenSSH to sign or to check signatures")
    return subprocess.run([tool, "-Y", action, *arguments], input=stdin, capture_output=True, check=False)


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
