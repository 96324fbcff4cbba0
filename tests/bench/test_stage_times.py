from __future__ import annotations

from bench.stage_times import TITLE, render
from qpruner_core.events import STAGES


def test_the_page_sets_the_stages_of_each_run_side_by_side() -> None:
    runs = [
        {"processor": name, "products": products, "seconds": dict.fromkeys(STAGES, seconds), "perplexity": 20.0}
        for name, products, seconds in (("A (AVX512)", "bfloat16", 1.0), ("A (AVX2)", "float32", 2.5))
    ]
    page = render(runs)
    assert page.startswith(TITLE + "\n")
    assert "| stage | A (AVX512), bfloat16 | A (AVX2), float32 |" in page
    assert "| prune | 1.0 s | 2.5 s |" in page
    assert "| **all** | **7 s** | **18 s** |" in page
