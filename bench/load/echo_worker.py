"""The least that runs a task: a Celery worker that pushes what it was sent onto a list.

python -m bench.load.echo_worker BROKER_URL
"""

from __future__ import annotations

import sys

import redis
from celery import Celery

from app.broker import celery_url, redis_url

QUEUE = "load-echo"
ECHO = "load.echo"
ANSWERS = "load-answers"


def create_echo(url: str) -> Celery:
    """The application of client and worker."""
    celery = Celery("echo", broker=celery_url(url), set_as_current=False)
    celery.conf.update(
        task_default_queue=QUEUE, task_ignore_result=True, worker_pool="threads", worker_concurrency=1,
        worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True,
    )  # fmt: skip
    answers = redis.Redis.from_url(redis_url(url))

    @celery.task(name=ECHO, ignore_result=True)
    def echo(text: str) -> None:
        answers.lpush(ANSWERS, text)

    return celery


if __name__ == "__main__":
    create_echo(sys.argv[1]).Worker(loglevel="WARNING", quiet=True, without_mingle=True, without_gossip=True,
                                    without_heartbeat=True).start()  # fmt: skip
