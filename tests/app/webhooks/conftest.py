"""Jobs in any state, as those of tests of jobs."""

from tests.app.jobs.conftest import make_job

__all__ = ["make_job"]
