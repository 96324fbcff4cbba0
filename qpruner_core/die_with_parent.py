"""Processes that get a signal when their parent dies, however it dies, from their very start.

This module is also the script that requests it: ``die_with_parent.py SIGNAL PARENT_PID COMMAND…``. A script, because
between fork and exec it would be Python in a forked process that has threads, and a command that requested it itself
would outlive a parent that dies while it is still importing.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def dying_with_parent(command: Sequence[str], signal: int) -> list[str]:
    """``command`` as one that gets ``signal`` when this process dies or the thread that starts it ends.

    Elsewhere than on Linux nothing sends the signal.

    Raises:
        FileNotFoundError: there is no such program.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"No such program: {command[0]!r}")
    # Isolated: neither the environment nor modules beside this file stand for those of the standard library
    return [sys.executable, "-I", "-S", __file__, str(int(signal)), str(os.getpid()), program, *command[1:]]


def main(signal: str, parent: str, *command: str) -> None:
    """Become ``command``; the request for ``signal`` is kept."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal))
        if os.getppid() != int(parent):  # it died before the request
            return
    os.execv(command[0], command)  # noqa: S606 - our own command, and no shell wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
