"""Why a claim fails where it does: a sentence or two for each kind of claim and model, kept by hand.

A text is printed only where a claim of its kind fails on its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.frontier.claims import Claim

REASONS: Mapping[tuple[str, str], str] = {
    ("llama", "SmolLM2-135M"): (
        "At Q5_K_M's bytes the divergence falls little below that at Q4_K_M's. The cause has not been found. With one "
        "trial the search follows additive scores, which know nothing of how modules act together."
    ),
    ("seconds", "SmolLM2-135M"): (
        "The second moments of all modules' inputs are computed twice, for the scores and for the fits, at about 23 "
        "CPU-seconds each with 64 sequences; the default is 32. Kept on disk they would take more than the model."
    ),
}
"""By kind of claim (``llama``, ``rival``, ``seconds``) and model."""


def reasons(claims: Sequence[Claim]) -> list[str]:
    """The paragraphs about those of ``claims`` that fail."""
    failed = dict.fromkeys((claim.kind, claim.model) for claim in claims if claim.holds is False)
    return [f"*{model}.* {REASONS[kind, model]}" for kind, model in failed if (kind, model) in REASONS]
