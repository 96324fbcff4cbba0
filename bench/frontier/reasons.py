"""Why a claim fails where it does: a sentence or two for each kind of claim and model, kept by hand.

A text is printed only where a claim of its kind fails on its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.frontier.claims import Claim

REASONS: Mapping[tuple[str, str], str] = {}
"""By kind of claim (``llama``, ``rival``, ``seconds``) and model."""


def reasons(claims: Sequence[Claim]) -> list[str]:
    """The paragraphs about those of ``claims`` that fail."""
    failed = dict.fromkeys((claim.kind, claim.model) for claim in claims if claim.holds is False)
    return [f"*{model}.* {REASONS[kind, model]}" for kind, model in failed if (kind, model) in REASONS]
