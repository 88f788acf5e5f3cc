"""What a process that trains does first."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, threading, torch
from rocompare.execute.local import keep_freed_memory

def faults():
    def work():
        for _ in range(5):
            buffers = [torch.ones(1 << 21) for _ in range(8)]
            del buffers
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults()
keep_freed_memory()
faults()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc alone")
@pytest.mark.slow
def test_freed_memory_is_kept_in_every_thread():
    """Eight buffers of 8 MiB, five times over, are 81,920 pages; a few are the interpreter's."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    before, kept, in_thread = map(int, done.stdout.split())
    if not before:
        pytest.skip("this system counts no page faults")
    assert before > 10_000
    assert kept < 100
    assert in_thread < 100
