"""Types of tensors go from one tool's file to the other's run."""

from __future__ import annotations

import re

from bench.frontier.given_types import tensor_type_lines


def test_each_pattern_matches_its_own_tensor_alone_and_vectors_have_none() -> None:
    types = {"blk.1.attn_q.weight": "q4_k", "blk.11.attn_q.weight": "q5_0", "blk.1.attn_norm.weight": "f32"}
    lines = [line.split("=") for line in tensor_type_lines(types).splitlines()]
    assert [kind for _, kind in lines] == ["q4_k", "q5_0"]
    for pattern, kind in lines:
        assert [types[name] for name in types if re.search(pattern, name)] == [kind]
