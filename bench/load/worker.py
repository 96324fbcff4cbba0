"""A worker whose jobs compute nothing: the real worker and child process around a scripted pipeline.

python -m bench.load.worker FOLDER [SCRIPT]
"""

from __future__ import annotations

import sys

from app.settings import Settings
from tests.worker.bench import SCRIPT
from worker.celery_app import run_worker

if __name__ == "__main__":
    folder, script = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else SCRIPT
    sys.exit(run_worker(Settings(), (sys.executable, script, folder)))
