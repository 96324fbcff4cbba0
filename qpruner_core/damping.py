"""Default damping of input moments, for settings (without torch) and for rounding."""

from __future__ import annotations

DAMPING = 0.1
"""Share of the mean of the moments' diagonal that is added to the diagonal. GPTQ uses 0.01, which fits the calibration
text better and other text worse."""
