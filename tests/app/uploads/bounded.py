"""Processes whose memory is measured: ``serve`` an installation, or ``check`` its next upload.

``check`` prints by how many bytes its peak grew, of which its children are no part.
"""

from __future__ import annotations

import sys

import uvicorn

from app.database import create_database_engine, create_session_factory
from app.main import create_app
from app.settings import Settings
from app.store import open_store
from tests.uploading import peak_of
from worker.upload_checks import UploadChecks


def main() -> None:
    settings = Settings(_env_file=None)
    if sys.argv[1] == "serve":  # without the threads of a start-up, which load torch
        app = create_app(settings)
        app.state.store.check()
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), lifespan="off", log_level="warning")
        return
    engine = create_database_engine(settings.resolved_database_url)
    checks = UploadChecks(settings, create_session_factory(engine), open_store(settings, engine))
    before = peak_of("self")
    assert checks.check_next()
    print(peak_of("self") - before)


if __name__ == "__main__":
    main()
