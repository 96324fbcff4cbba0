"""Upper bounds of settings, so that no request can run forever.

They are far beyond useful values. Values that are allowed one by one may still be too much together; see
:mod:`qpruner_core.workload`.
"""

from __future__ import annotations

SHORTEST_SEQUENCE = 16
LONGEST_SEQUENCE = 131_072
"""Tokens; the longest context of today's models."""
MOST_LAYERS = 1024
"""Decoder layers; the deepest models have about 130. Keeps a broken config from building an endless model."""
WIDEST_MLP = 65_536
"""Channels of an MLP; the largest models have 53,248."""
MOST_SEQUENCES = 16_384
"""Sequences of calibration or validation; results change little beyond a few hundred."""
MOST_CANDIDATES = 20_000
"""Allocations that one proposal compares. Each takes 8 bytes per finished trial: 320 MB at 2000 trials."""
MOST_STEPS = 1_000_000
"""Optimiser steps; eleven days at one step per second."""
MOST_HELD_OUT_TOKENS = 2**24
"""Tokens for perplexity: about one forward pass per measured model."""
MOST_CHOICES = 100_000
MOST_GENERATED_TOKENS = 4096
"""Tokens generated one after another, per measured model."""
