"""Silence for libraries that print where users look."""

from __future__ import annotations

import logging
import os
import warnings


def quieten_libraries() -> None:
    """Turn off progress bars and notices of transformers, huggingface_hub and bitsandbytes; errors are still printed.

    Progress bars of GGUF files and import notices of bitsandbytes are only suppressed if neither was imported before.
    """
    for setting in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(setting, "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for module in ("transformers", "peft", "torch"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
