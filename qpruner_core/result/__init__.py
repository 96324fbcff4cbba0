"""Output of a finished run beside the checkpoints: report, recipe and model card."""
