"""Why a claim fails where it does: a sentence or two for each kind of claim and model, kept by hand.

A text is printed only where a claim of its kind fails on its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.frontier.claims import Claim

REASONS: Mapping[tuple[str, str], str] = {
    ("llama", "SmolLM2-135M"): (
        "Rows of 576 weights have no type between q5_1 (6 bits) and q8_0 (8.5), and the embeddings, from a Q8_0 file, "
        "lose nothing in q8_0. At Q5_K_M's bytes both tools give them q8_0 and most layers 6 bits, so that little "
        "is left to allocate and the rounding makes the difference."
    ),
}
"""By kind of claim (``llama``, ``rival``, ``seconds``) and model."""


def reasons(claims: Sequence[Claim]) -> list[str]:
    """The paragraphs about those of ``claims`` that fail."""
    failed = dict.fromkeys((claim.kind, claim.model) for claim in claims if claim.holds is False)
    return [f"*{model}.* {REASONS[kind, model]}" for kind, model in failed if (kind, model) in REASONS]
