from __future__ import annotations

from typing import Any

from qpruner_core import parse_config
from qpruner_core.models.families import find_family
from qpruner_core.stage_times import expected_seconds
from tests.core.small_models import small_config


def seconds(stage: str, **settings: Any) -> float:
    config = parse_config({"model": "m", "dataset": "d", "memory_budget": 1, "sequence_length": 8192, stage: settings})
    dense = small_config("llama", hidden_size=768, intermediate_size=2048)
    return expected_seconds(config, dense, find_family("llama"))[0][stage]  # type: ignore[index]


def test_what_recovery_does_more_takes_longer() -> None:
    steps = {"steps": 1000, "loss": "cross_entropy"}
    alone = seconds("finetune", **steps)
    assert seconds("finetune", **steps | {"loss": "distillation"}) > 1.2 * alone
    assert seconds("finetune", **steps | {"activation_checkpointing": True}) > 1.2 * alone
    assert seconds("finetune", **steps | {"steps": 2000}) > 1.5 * alone
    assert seconds("finetune", **steps | {"evaluate_every": 10, "validation_sequences": 100}) > 2 * alone
    assert seconds("finetune", steps=0) < alone / 10


def test_more_trials_take_longer_unless_one_allocation_is_all_that_is_tried() -> None:
    assert seconds("allocate", trials=80) > 1.5 * seconds("allocate", trials=40)
    assert seconds("allocate", trials=40, search="knapsack") < seconds("allocate", trials=40) / 5
    assert seconds("allocate", trials=80, search="knapsack") == seconds("allocate", trials=40, search="knapsack")
    recovered = {"objective": "recovered", "prior": "none", "trials": 40}
    assert seconds("allocate", **recovered, recovery_steps=10) > 1.2 * seconds("allocate", trials=40)
    assert seconds("allocate", **recovered, recovery_steps=40) > 2 * seconds("allocate", **recovered, recovery_steps=10)
