"""Checkpoints: the whole state of a training, in one file that is whole or is not used."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

HEAD = b"rocompare checkpoint 2\n"


class Unusable(Exception):
    """The file is no whole checkpoint; the message says why."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace ``path`` by ``state``, with a digest that :func:`load` checks.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    content = io.BytesIO()
    # By way of memory: what torch says of a full disk does not tell that it is full.
    torch.save(state, content)
    body = content.getbuffer()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(HEAD + hashlib.sha256(body).hexdigest().encode() + b"\n")
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        message = f"cannot write the checkpoint: {error.strerror}"
        raise OSError(error.errno, message, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """The state that was saved; nothing is unpickled but tensors and plain data.

    Raises:
        Unusable: a part of the file is missing or changed, or it is no checkpoint.
    """
    try:
        head, digest, body = _split(path.read_bytes())
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None
    if head != HEAD:
        raise Unusable("not a checkpoint of this version of rocompare")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Unusable("damaged: its content does not match its digest")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


def _split(data: bytes) -> tuple[bytes, bytes, memoryview]:
    end = len(HEAD) + 64
    return data[: len(HEAD)], data[len(HEAD) : end], memoryview(data)[end + 1 :]
