"""Exit with 0 if the worker of this container answers; another host's does not count."""

from __future__ import annotations

import socket
import sys

from app.broker import create_celery, resolved_broker_url
from app.settings import Settings

replies = create_celery(resolved_broker_url(Settings()), socket_connect_timeout=3).control.ping(timeout=5)
nodes = [name for reply in replies for name in reply]
print(", ".join(nodes) or "No worker answers.")
sys.exit(not any(name.endswith(f"@{socket.gethostname()}") for name in nodes))
