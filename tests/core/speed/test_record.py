from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.compute.choice import choose_compute
from qpruner_core.precision_names import PRECISIONS
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy, default_cache_dir
from qpruner_core.speed import measure
from qpruner_core.speed.machine import identity_key, machine_identity
from qpruner_core.speed.machine_speed import MachineSpeed
from qpruner_core.speed.record import (
    Observation,
    SpeedRecord,
    record_of_this_machine,
    store_record,
    stored_record,
)
from tests.made_up_speed import made_up_speed

PRODUCTS = choose_compute("auto", best_device(), default_cache_dir()).products

FRESH = SpeedRecord(speed=made_up_speed())


def _after(ratios: list[float], expected: float = 10.0) -> SpeedRecord:
    record = FRESH
    for ratio in ratios:
        record = record.observed({"score": Observation(expected=expected, measured=expected * ratio)})
    return record


def test_one_odd_run_does_not_spoil_the_next_estimate() -> None:
    assert _after([1.1, 1.2, 50.0, 1.1, 1.3]).correction("score", 10.0) == pytest.approx(1.15, abs=0.01)
    assert _after([4.0]).correction("score", 10.0) == pytest.approx(2.0)


def test_the_latest_runs_count() -> None:
    assert _after([1.0] * 30 + [2.0] * 5).correction("score", 10.0) == pytest.approx(2.0)


def test_a_correction_is_bounded_and_only_of_its_own_stage() -> None:
    record = _after([1000.0] * 3)
    assert record.correction("score", 10.0) == 8.0
    assert _after([1e-6]).correction("score", 10.0) == 1 / 8
    assert record.correction("prune", 10.0) == 1.0


def test_stages_of_quite_another_length_say_nothing() -> None:
    assert _after([3.0] * 3, expected=0.1).correction("score", 100.0) == 1.0
    assert _after([3.0] * 3, expected=30.0).correction("score", 100.0) == pytest.approx(3.0)


def test_a_record_is_found_again_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    record = _after([2.0])
    store_record(tmp_path, record)
    assert stored_record(tmp_path, record.speed.key) == record
    [file] = (tmp_path / "speed").iterdir()
    file.write_text(file.read_text()[:-20])
    assert stored_record(tmp_path, record.speed.key) is None
    assert stored_record(tmp_path, "another") is None


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "speed").write_text("in the way")
    store_record(tmp_path, FRESH)
    assert stored_record(tmp_path, FRESH.speed.key) is None


@pytest.fixture(scope="module")
def measured() -> tuple[MachineSpeed, bool]:
    """This machine, measured for real; and whether that left torch's random numbers alone."""
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    speed = measure.measure_machine(PRODUCTS)
    return speed, torch.equal(state, torch.random.get_rng_state())


def test_measuring_a_machine_gives_positive_figures_and_leaves_random_numbers_alone(
    measured: tuple[MachineSpeed, bool],
) -> None:
    speed, left_alone = measured
    assert left_alone
    assert speed.key == identity_key(machine_identity(PRODUCTS))
    small, large = speed.layers[0], speed.layers[-1]
    assert small.weights < large.weights
    for cost in (*small.passes.values(), *large.passes.values()):
        assert cost.call + 256 * cost.per_token > 0
    assert set(speed.rounding) == set(PRECISIONS)
    assert all(seconds >= 0 for seconds in speed.rounding.values())
    assert min(speed.product, speed.logits.divergence, speed.fit.nearest, speed.files.write_byte, speed.proposal) > 0


def test_a_machine_is_measured_once_for_each_type_of_products_and_number_of_threads(
    measured: tuple[MachineSpeed, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(measure, "measure_machine", lambda products: calls.append(products) or measured[0])
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 9.0, 9.0))
    policy = SourcePolicy(cache_dir=tmp_path)
    assert record_of_this_machine(policy) == record_of_this_machine(policy) == SpeedRecord(speed=measured[0])
    assert calls == [PRODUCTS]
    identities = [machine_identity(products) for products in ("bfloat16", "float32")]
    identities.append(identities[0] | {"threads": 99})
    assert len(set(map(identity_key, identities))) == 3


def test_a_speed_that_was_measured_on_a_busy_machine_holds_until_it_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([made_up_speed(slowness=9.0), made_up_speed()])
    load = [0.0]
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load[0], 0.0, 0.0))
    monkeypatch.setattr(measure, "measure_machine", lambda products: next(speeds))
    monkeypatch.setattr("qpruner_core.speed.machine.identity_key", lambda identity: made_up_speed().key)
    policy = SourcePolicy(cache_dir=tmp_path)

    slow, fast = (SpeedRecord(speed=made_up_speed(slowness=9.0), busy=True), SpeedRecord(speed=made_up_speed()))
    load[0] = 2.1
    assert [record_of_this_machine(policy), record_of_this_machine(policy)] == [slow, slow]
    load[0] = 1.9
    assert [record_of_this_machine(policy), record_of_this_machine(policy)] == [fast, fast]
    load[0] = 4.0
    assert record_of_this_machine(policy) == fast


def test_a_machine_that_cannot_be_measured_has_no_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(products: str) -> MachineSpeed:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(measure, "measure_machine", fail)
    assert record_of_this_machine(SourcePolicy(cache_dir=tmp_path)) is None
    assert "cannot be measured" in caplog.text
