"""What produced a result: versions, commit, machine and command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def command_line() -> str:
    """The command of this process, as one would type it again."""
    script = Path(sys.argv[0])
    module = script.name == "__main__.py"
    start = [Path(sys.executable).name, "-m", "rocompare"] if module else [script.name]
    return shlex.join([*start, *sys.argv[1:]])


def provenance(device: str) -> dict[str, Any]:
    """What produced a result: versions, commit, machine and command."""
    import torch

    from rocompare import __version__

    return {
        "rocompare": __version__,
        **_git(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "command": command_line(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that this package is in, if it is in one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
