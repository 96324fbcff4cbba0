"""The broker answers, or says quickly that it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.broker import QUEUE, Broker, BrokerUnavailableError, embedded_socket
from tests.valkey import Valkey

pytestmark = pytest.mark.service


CALLS: list[Callable[[Broker], object]] = [
    lambda broker: broker.wake("job_x"), Broker.check, Broker.backlog, Broker.count_workers,
]  # fmt: skip


def test_a_wake_up_carries_a_job_id_as_json_and_nothing_else(broker: Broker) -> None:
    broker.wake("job_x")
    message = broker._redis.lindex(QUEUE, 0)
    assert isinstance(message, bytes)
    assert b'"application/json"' in message
    assert b"pickle" not in message
    assert b"job_x" in message


@pytest.mark.parametrize("call", CALLS)
def test_a_broker_that_is_away_is_told_within_two_seconds(
    broker: Broker, valkey: Valkey, call: Callable[[Broker], object]
) -> None:
    broker.wake("job_x")
    valkey.stop()
    asked = time.monotonic()
    with pytest.raises(BrokerUnavailableError):
        call(broker)
    assert time.monotonic() - asked < 2


@pytest.mark.parametrize("call", CALLS)
def test_a_broker_that_came_back_is_used_again(
    broker: Broker, valkey: Valkey, call: Callable[[Broker], object]
) -> None:
    broker.wake("job_x")
    broker.count_workers(0.1)
    valkey.stop()
    valkey.start()
    call(broker)


def test_no_worker_is_counted_where_there_is_none(broker: Broker) -> None:
    assert broker.count_workers(0.1) == 0


def test_the_embedded_socket_has_a_path_that_the_system_takes(tmp_path: Path) -> None:
    assert embedded_socket(tmp_path / "short") == tmp_path / "short" / "run" / "valkey.sock"
    long = tmp_path / ("deep" * 30)
    assert len(str(embedded_socket(long))) < 100
    assert embedded_socket(long) != embedded_socket(long / "other")
