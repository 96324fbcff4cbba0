"""What a run hands out beside the checkpoints, once all stages are finished: report, recipe and model card."""
