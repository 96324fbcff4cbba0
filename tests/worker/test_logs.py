"""The output of a job's process reaches its log, while it runs and when it crashes."""

from __future__ import annotations

from app.jobs.logs import list_logs
from tests.server_processes import wait_until
from tests.worker.bench import CONFIG, Bench


def text_of(bench: Bench, job_id: str) -> str:
    with bench.installation.sessions() as session:
        return "".join(log.text for log in list_logs(session, job_id))


def test_what_it_prints_is_in_the_log_while_it_runs(bench: Bench) -> None:
    job_id = bench.installation.submit(CONFIG)
    hold = bench.direct("prune", "hold")
    bench.start(job_id)
    assert wait_until(lambda: "and that of a program it runs" in text_of(bench, job_id), seconds=30)
    assert "a library's chatter on standard output" in text_of(bench, job_id)
    hold.unlink()
    bench.join()


def test_what_it_printed_just_before_its_job_was_cancelled_is_kept(bench: Bench) -> None:
    job_id = bench.installation.submit(CONFIG)
    hold = bench.direct("prune", "hold")
    bench.direct("score", "print", "late words")
    bench.direct("score", "hold")
    bench.start(job_id)
    assert wait_until(lambda: "chatter" in text_of(bench, job_id), seconds=30)
    hold.unlink()
    bench.begun("score")
    bench.installation.ask_to_cancel(job_id)
    bench.join()
    assert "late words" in text_of(bench, job_id)


def test_the_last_words_of_a_process_that_crashes_are_kept(bench: Bench) -> None:
    job_id = bench.installation.submit(CONFIG)
    bench.direct("score", "crash")
    bench.start(job_id)
    bench.join()
    assert "Killed by the test" in text_of(bench, job_id)
    bench.direct("score", "crash").unlink()
