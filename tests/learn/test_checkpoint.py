"""Checkpoint files: whole, or not used."""

import errno
import os

import pytest
import torch

from rocompare.learn import checkpoint
from tests.support.helpers import CPU

STATE = {"weights": torch.arange(6.0).view(2, 3), "step": 7, "curve": [{"returns": [1.5, None]}]}


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "new" / "checkpoint.pt"
    checkpoint.save(path, STATE)
    state = checkpoint.load(path, CPU)
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"step": 7, "curve": [{"returns": [1.5, None]}]}
    checkpoint.save(path, {"step": 8})
    assert checkpoint.load(path, CPU) == {"step": 8}
    assert list(path.parent.iterdir()) == [path]


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 7})
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        bad = bytearray(whole)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        if at == len(checkpoint.HEAD) + 64:  # the line break after the digest, which says nothing
            continue
        with pytest.raises(checkpoint.Unusable):
            checkpoint.load(path, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "not a checkpoint of this version"),
        (lambda data: b"rubbish" * 99, "not a checkpoint of this version"),
        (lambda data: data.replace(b"checkpoint 2", b"checkpoint 1", 1), "not a checkpoint of this version"),
        (lambda data: data[:40], "its content does not match its digest"),
        (lambda data: data[:-1], "its content does not match its digest"),
        (lambda data: data + b"\0", "its content does not match its digest"),
    ],
)  # fmt: skip
def test_other_files_are_refused(change, message, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(checkpoint.Unusable, match=message):
        checkpoint.load(path, CPU)


def test_a_file_that_cannot_be_read_is_unusable(tmp_path):
    with pytest.raises(checkpoint.Unusable, match="cannot be read: Is a directory"):
        checkpoint.load(tmp_path, CPU)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_no_code_in_a_file_is_run(tmp_path):
    """Although its digest fits: whoever can write the file can write that too."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": Evil()})
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoint.load(path, CPU)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 7})

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write the checkpoint: No space left") as info:
        checkpoint.save(path, {"step": 8})
    assert info.value.errno == errno.ENOSPC
    assert info.value.filename == str(path)
    monkeypatch.undo()
    assert checkpoint.load(path, CPU) == {"step": 7}
    assert list(tmp_path.iterdir()) == [path]
