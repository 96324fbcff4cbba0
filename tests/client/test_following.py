"""Events over connections that break, and waiting for the end."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest

from app.jobs.history import append_event
from app.jobs.models import Job
from qpruner_client import Client, JobCancelledError, JobFailedError, ProgressBar, WaitTimeoutError
from qpruner_client.models import CancelledEvent, StageProgressEvent, StageStartedEvent
from tests.app import seeded_jobs
from tests.app.live_service import Service
from tests.client.conftest import QUICK, Refusals
from tests.server_processes import wait_until
from tests.worker.severable import severable

pytestmark = pytest.mark.service


def running_job(service: Service) -> str:
    with service.app.state.session_factory.begin() as session:
        return seeded_jobs.add_running_job(session).id


def end(service: Service, job_id: str, status: str = "cancelled") -> None:
    with service.app.state.session_factory.begin() as session:
        session.get_one(Job, job_id).status = status
        append_event(session, job_id, status)  # type: ignore[arg-type]


def in_a_while(action: Callable[[], None], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_every_event_comes_once_and_typed_until_the_job_has_ended(service: Service, client: Client) -> None:
    job_id = running_job(service)
    timer = in_a_while(lambda: end(service, job_id))
    events = list(client.jobs.get(job_id).events())
    timer.join()
    assert len({event.id for event in events}) == len(events)
    assert isinstance(events[-2], StageProgressEvent)
    assert (events[-2].data.message, events[-2].data.fraction) == ("trial 16 of 40", 0.4)
    assert isinstance(events[-1], CancelledEvent)
    assert isinstance(events[1], StageStartedEvent)
    after = list(client.jobs.get(job_id).events(after=events[2].id))
    assert [event.id for event in after] == [event.id for event in events[3:]]


def test_a_connection_that_breaks_again_and_again_costs_no_event_and_doubles_none(service: Service) -> None:
    job_id = running_job(service)
    with severable(int(service.url.rpartition(":")[2])) as cable:
        url = f"http://127.0.0.1:{cable.port}"

        def disturb() -> None:
            for number in range(5):
                with service.app.state.session_factory.begin() as session:
                    append_event(session, job_id, "warning", {"message": str(number)})
                assert wait_until(lambda: cable.connected, every=0.01)
                cable.pull()
                refused = cable.refused
                assert wait_until(lambda: cable.refused > refused, every=0.01)  # noqa: B023 - called at once
                cable.plug_in()
            end(service, job_id)

        disturbing = threading.Thread(target=disturb)
        with Client(url, retries=QUICK) as client:
            job = client.jobs.get(job_id)
            disturbing.start()
            events = list(job.events())
        disturbing.join()
    told = [event.id for event in events]
    assert told == sorted(set(told))
    assert [event.data.message for event in events if event.type == "warning"] == list("01234")
    assert events[-1].type == "cancelled"


def test_an_event_with_the_id_of_one_that_was_deleted_is_not_missed(service: Service, client: Client) -> None:
    job = client.jobs.get(running_job(service))
    with service.app.state.session_factory.begin() as session:
        other = seeded_jobs.add_job(session, "queued").id

    def reuse_an_id() -> None:
        end(service, other)
        list(client.jobs.get(other).events())  # the feed has seen the id
        client.jobs.get(other).delete()
        end(service, job.id)

    timer = in_a_while(reuse_an_id)
    assert list(job.events(timeout=20))[-1].type == "cancelled"
    timer.join()


def test_a_service_that_refuses_streams_for_a_while_is_asked_again(
    service: Service, client: Client, refusals: Refusals
) -> None:
    job_id = running_job(service)
    end(service, job_id)
    job = client.jobs.get(job_id)
    refusals.next = [(429, {"Retry-After": "0"}), (503, {})]
    assert [event.type for event in job.events()][-1] == "cancelled"


def test_waiting_ends_with_the_job_and_raises_unless_it_succeeded(service: Service, client: Client) -> None:
    job_id = running_job(service)
    timer = in_a_while(lambda: end(service, job_id))
    with pytest.raises(JobCancelledError) as cancelled:
        client.jobs.get(job_id).wait()
    timer.join()
    assert cancelled.value.job_id == job_id
    assert client.jobs.get(job_id).wait(check=False).status == "cancelled"
    with service.app.state.session_factory.begin() as session:
        failed = seeded_jobs.add_failed_job(session).id
    with pytest.raises(JobFailedError, match="NaN at step 31") as error:
        client.jobs.get(failed).wait()
    assert (error.value.code, error.value.field, error.value.user) == (
        "training_diverged", "finetune.learning_rate", False,
    )  # fmt: skip


def test_waiting_takes_no_longer_than_it_may_and_leaves_the_job_alone(service: Service, client: Client) -> None:
    job = client.jobs.get(running_job(service))
    with pytest.raises(WaitTimeoutError, match=job.id):
        job.wait(timeout=0.3)
    assert job.refresh().status == "running"


def test_a_log_has_a_line_for_each_stage_and_a_terminal_a_bar(service: Service, client: Client) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    job_id = running_job(service)
    end(service, job_id)
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        bar = ProgressBar(stream)
        client.jobs.get(job_id).wait(progress=bar, check=False)
        bar.close()
    lines = [line.partition("] ")[2] for line in log.getvalue().splitlines()]
    assert lines == [
        "queued", "prune: started", "prune: finished in 4.2 s", "score: started", "score: finished in 17.2 s",
        "allocate: started", "cancelled",
    ]  # fmt: skip
    assert " 40%  trial 16 of 40" in terminal.getvalue()
