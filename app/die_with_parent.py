"""Runs a command that gets a signal when this process's parent dies, however it dies.

Run as a script: ``die_with_parent.py SIGNAL PARENT_PID COMMAND…``. A wrapper, because setting it between fork and exec
would run Python in a forked process that has threads. Elsewhere than on Linux it only runs the command.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(signal: str, parent: str, *command: str) -> None:
    """Become ``command``; the request for ``signal`` is kept."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal))
        if os.getppid() != int(parent):  # it died before the request
            return
    os.execv(command[0], command)  # noqa: S606 - our own command, and no shell wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
