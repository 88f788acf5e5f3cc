"""Files of a results folder: written whole or not at all, read only if they are regular files."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import yaml

from rocompare.errors import ResultsError

MAX_RECORD = 32 << 20
"""Bytes of the largest record, summary or failure that is read."""
MAX_CONFIG = 1 << 20
MAX_NODES = 20_000
"""Values in a configuration, those behind aliases counted each time they are used."""
MAX_DEPTH = 30
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, limit: int = MAX_RECORD) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    A link is refused, for what it leads to is not part of the results; so are devices and pipes,
    which may never end.
    """
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise ResultsError(f"{path}: not a regular file, so it is not read; remove it")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise ResultsError(
            f"{path}: larger than {limit >> 20} MiB, which no file of rocompare is; remove it"
        )
    return data


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: corrupt ({error!s:.200}); delete it") from None
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: not a rocompare record; delete it")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values."""
    try:
        value = yaml.load(read(path, MAX_CONFIG), Loader=_YAML_LOADER)
    except ResultsError:
        raise
    except Exception as error:  # PyYAML's constructors raise anything for an odd tag
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ResultsError(f"{path}: not readable: {text:.200}") from None
    if _count(value, MAX_DEPTH) > MAX_NODES or not isinstance(value, dict):
        raise ResultsError(f"{path}: not the configuration of a rocompare cell; delete the folder")
    return value


def _count(value: Any, depth: int) -> int:
    """Values in ``value``, or more than ``MAX_NODES`` if it is too deep or too large."""
    if not isinstance(value, dict | list):
        return 1
    total = 1
    for part in value.values() if isinstance(value, dict) else value:
        if depth == 0 or total > MAX_NODES:
            return MAX_NODES + 1
        total += _count(part, depth - 1)
    return total


def write(path: Path, data: str | bytes) -> None:
    """Replace ``path`` by ``data``: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_out(path: Path) -> None:
    """Whether :func:`write_out` takes ``path``, to ask before a long work.

    Raises:
        ResultsError: no regular file stands there, but a folder or a device say.
    """
    if path.is_dir():
        raise ResultsError(f"{path}: is a folder; give the name of a file in it")
    if path.exists() and not path.is_file():
        raise ResultsError(f"{path}: is no regular file, and is not replaced; give another name")


def write_out(path: Path, data: str | bytes) -> None:
    """Write a file that the user named: a new one, or in place of a regular one.

    Raises:
        ResultsError: see :func:`check_out`.
    """
    check_out(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
