"""A worker whose jobs take a second: the real supervisor and child process around a pipeline that computes nothing.

python -m bench.load.worker FOLDER
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

from app.database import create_database_engine, create_session_factory
from app.settings import Settings
from app.store import open_store
from tests.worker.bench import SCRIPT
from worker.celery_app import create_worker
from worker.job_run import Parts
from worker.supervisor import Supervisor

if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    settings = Settings()
    engine = create_database_engine(settings.resolved_database_url)
    store = open_store(settings, engine)
    parts = Parts(settings, create_session_factory(engine), store, (sys.executable, SCRIPT, sys.argv[1]))
    celery = create_worker(settings, Supervisor(parts))
    threading.current_thread().name = "worker"
    celery.Worker(hostname=f"load-{os.getpid()}@{socket.gethostname()}", loglevel="WARNING", quiet=True,
                  without_mingle=True, without_gossip=True, without_heartbeat=True).start()  # fmt: skip
