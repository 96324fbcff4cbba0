"""What a target makes of the options of a group, and which of them a run works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.precision_names import BITS_PER_WEIGHT, size_order
from qpruner_core.precisions import Precision, precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Shape, Target
from qpruner_core.targets.bitsandbytes import BitsAndBytes
from qpruner_core.targets.config import PRECISIONS, TargetName
from qpruner_core.targets.registry import TARGETS, bind_target

RUN = {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1000}


class Blocks(Target):
    """Stores NF4 only in rows of whole blocks of 64, and others as INT8; keeps modules of one row in 16 bits."""

    name: ClassVar[TargetName] = "bitsandbytes"
    default_options: ClassVar[tuple[str, ...]] = ("nf4", "int8", "bf16")

    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]:
        return precisions(quantize)

    def stored_as(self, name: str, shapes: Sequence[Shape]) -> str:
        if any(rows == 1 for rows, _ in shapes):
            return "bf16"
        return "int8" if name == "nf4" and any(columns % 64 for _, columns in shapes) else name


def bound(kind: type[Target], **settings: object) -> Target:
    return kind(QuantizeConfig(), AllocateConfig.model_validate(settings))


def test_an_option_that_a_module_cannot_have_gives_it_what_the_engine_falls_back_to() -> None:
    options = bound(Blocks).group_options([(8, 64), (8, 96)], ("nf4", "int8", "bf16"))
    assert options == {"nf4": ("nf4", "int8"), "int8": ("int8", "int8"), "bf16": ("bf16", "bf16")}
    assert list(options) == ["nf4", "int8", "bf16"]


def test_options_that_come_to_the_same_are_one_and_have_the_name_of_what_is_stored() -> None:
    target = bound(Blocks)
    assert target.group_options([(8, 96)], ("nf4", "int8", "bf16")) == {"int8": ("int8",), "bf16": ("bf16",)}
    assert target.group_options([(8, 96), (4, 32)], ("nf4",)) == {"int8": ("int8", "int8")}
    assert target.group_options([(1, 64)], ("nf4", "int8")) == {"bf16": ("bf16",)}


@given(
    shapes=st.lists(st.tuples(st.sampled_from([1, 8]), st.sampled_from([64, 96])), min_size=1, max_size=4),
    names=st.sets(st.sampled_from(["nf4", "int8", "bf16"]), min_size=1),
)
def test_every_option_asked_for_is_among_those_of_the_group(shapes: list[Shape], names: set[str]) -> None:
    target = bound(Blocks)
    options = target.group_options(shapes, sorted(names))
    assert {tuple(target.stored_as(name, [shape]) for shape in shapes) for name in names} == set(options.values())
    assert len(set(options.values())) == len(options)
    assert list(options) == sorted(options, key=size_order)
    assert all(set(each) != {other} or name == other for name, each in options.items() for other in each)


def test_options_of_a_run_are_by_size_whatever_their_alphabet() -> None:
    assert bound(BitsAndBytes).options == ("nf4", "int8", "bf16")
    assert bound(BitsAndBytes, precisions=["bf16", "nf4"]).options == ("nf4", "bf16")


@pytest.mark.parametrize("name", TARGETS)
def test_the_names_of_a_target_are_those_of_its_precisions_by_rising_size(name: TargetName) -> None:
    target = bind_target(name, QuantizeConfig(), AllocateConfig())
    assert set(PRECISIONS[name]) == set(target.precisions)
    assert list(PRECISIONS[name]) == sorted(PRECISIONS[name], key=size_order)
    assert all(kind.name == own for own, kind in target.precisions.items())


def test_without_embeddings_these_have_no_choice() -> None:
    assert bound(BitsAndBytes).embedding_options == ("int8", "bf16")
    assert bound(BitsAndBytes, embeddings=False).embedding_options == ("bf16",)


def test_a_precision_of_another_target_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BITS_PER_WEIGHT, "q4_of_another", 4.5)
    with pytest.raises(InvalidConfigError, match="'q4_of_another' is not a precision of the target bitsandbytes"):
        parse_config(RUN | {"target": "bitsandbytes", "allocate": {"precisions": ["nf4", "q4_of_another"]}})


def test_a_precision_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'nf5' is not a precision; known precisions: .*nf4"):
        CompressionConfig.model_validate(RUN | {"allocate": {"precisions": ["nf5"]}})


def test_a_preset_that_is_no_name_is_refused_like_any_other_fault() -> None:
    with pytest.raises(ValidationError, match="preset"):
        CompressionConfig.model_validate(RUN | {"preset": ["best"]})
