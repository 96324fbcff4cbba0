"""Descriptions of fields and parameters whose models do not carry their own: those of the core's results, mostly."""

from __future__ import annotations

from collections.abc import Mapping

ANY_SCHEMA: Mapping[str, str] = {
    "bytes": "Size in bytes.",
    "sha256": "SHA-256 of the content, in hex.",
    "created_at": "When it was made.",
    "memory_budget": "Bytes of the loaded model's weights.",
    "loss": "Nats per token; less is better.",
    "precisions": "Precision of each of `groups`, in their order.",
    "groups": "Units with a precision of their own.",
}
"""By field, for every schema that says nothing better."""

FIELDS: Mapping[str, Mapping[str, str]] = {
    "Alive": {"status": "Always `alive`."},
    "ArtifactList": {"artifacts": "The files."},
    "ArtifactView": {
        "name": "Name of the file, as it is downloaded.", "format": "Kind of file: gguf, tar, json or md.",
        "expires_at": "When the signed URL expires.",
    },
    "BytesByPart": {
        "embeddings": "Of embeddings and head.", "layers": "Of the layers' weights.", "norms": "Of norms and biases.",
        "quantization_constants": "Of scales and other constants of quantized weights.", "adapters": "Of adapters.",
    },
    "CompressionReport": {
        "model": "The model as it was named.", "revision": "Commit of the hub; null for other models.",
        "dataset": "The dataset as it was named.", "device": "The device of `fit`, where one was given.",
        "seed": "Random seed.", "compute": "Type of matrix products and processor; null in old reports.",
        "prune_ratio": "Fraction of the layers' parameters that was to be removed.", "pruning": "What pruning removed.",
        "widths": "Widths of each layer after pruning.", "predicted_bytes": "Bytes that were predicted.",
        "measurements": "The table of before and after.", "exported": "The checkpoints, the one to take first.",
        "stage_seconds": "Seconds of each stage.", "warnings": "What to know of the run.",
        "files": "Files of the checkpoints.", "stored": "Formats that modules are stored in.",
    },
    "Compute": {
        "products": "Type of matrix products.", "reason": "Why that type, in a sentence.",
        "processor": "Model of the CPU or GPU.", "threads": "CPU threads.",
    },
    "CurvePoint": {"step": "Step of the optimiser.", "value": "Value at that step."},
    "DatasetPage": {"datasets": "The datasets."},
    "DatasetView": {
        "id": "Id of the dataset.", "filename": "Name of the file, made safe.", "records": "Records that were read.",
    },
    "DeviceMemory": {
        "memory": "Memory of the device that the engine may use.", "weights": "Bytes that are left for weights.",
        "kv_cache": "Bytes of keys and values.", "activations": "Bytes of hidden states, buffers and logits.",
        "engine": "Bytes of the engine itself and of what it leaves to others.",
        "context": "Tokens of the longest sequence.", "sequences": "Sequences served at the same time.",
        "cache_type": "Type of keys and values.", "target": "The engine's target.",
    },
    "Estimate": {
        "feasible": "Whether the budget can be met.", "device": "The device of `fit`, where one was given.",
        "smallest_feasible_memory": "Smallest memory of such a device that would do.",
        "dense_bytes": "Bytes of the model as it is.", "smallest_feasible_bytes": "Smallest budget that can be met.",
        "prune_ratio": "Fraction of the layers' parameters to remove.",
        "predicted_bytes": "Bytes by part, at the lowest precision everywhere.",
        "predicted_total_bytes": "Sum of all parts.", "notes": "What bytes and times rest on.",
        "stage_seconds": "Expected seconds of each stage; empty while no machine's speed is known.",
    },
    "ExportedFormat": {
        "name": "Name of the format.", "title": "What it is.", "path": "Its place in the output of a run.",
        "artifact": "Name of the file that the job hands out.", "snippets": "The lines that run it.",
    },
    "Fault": {"detail": "The fault, in one sentence."},
    "FileRecord": {"path": "Path relative to the folder of the checkpoints."},
    "JobErrorView": {
        "code": "Stable identifier of the reason.", "message": "The reason, in a sentence.",
        "field": "Dotted path of the setting at fault.", "remedy": "What to do about it.",
    },
    "JobLinks": {
        "self": "The job.", "events": "Its history.", "trials": "Its search.", "metrics": "Its curves.",
        "artifacts": "Its files.",
    },
    "JobPage": {"jobs": "The jobs."},
    "JobRequest": {
        "prune": "Settings of pruning.", "score": "Settings of scoring.", "allocate": "Settings of the search.",
        "quantize": "Settings of quantization.", "finetune": "Settings of recovery.",
        "evaluate": "Settings of measuring.", "export": "Settings of the checkpoints.",
    },
    "JobView": {
        "id": "Id of the job.", "status": "State of the job.", "max_attempts": "Attempts before the job fails.",
        "model": "The model as it was named.", "dataset": "The dataset as it was named.",
        "labels": "Names and values of yours.", "started_at": "When its first attempt began.",
        "finished_at": "When it ended.", "stages": "The seven stages, in order.", "links": "Paths of the job's parts.",
    },
    "JobSummary": {
        "id": "Id of the job.", "status": "State of the job.", "model": "The model as it was named.",
        "dataset": "The dataset as it was named.", "labels": "Names and values of yours.",
        "started_at": "When its first attempt began.", "finished_at": "When it ended.",
        "max_attempts": "Attempts before the job fails.", "links": "Paths of the job's parts.",
    },
    "Measurement": {
        "variant": "Identifier of the row.", "label": "Name of the row.", "parameters": "Parameters of the model.",
        "file_bytes": "Bytes of its files; null for what was not exported.",
        "perplexity": "Exponential of the mean loss per held-out token.",
        "divergence": "Mean KL divergence from the dense model, nats per token.",
        "top1_agreement": "Share of tokens for which both predict the same one first.",
        "compared_tokens": "Held-out tokens that these two are measured on.",
        "accuracy": "Share of multiple-choice examples answered right; null without such examples.",
        "accuracy_stderr": "Its standard error.", "tokens_per_second": "Greedy generation at batch 1.",
        "prefill_tokens_per_second": "Speed of reading a prompt; null in torch.",
        "speed_engine": "Engine that speeds were measured in.",
    },
    "PartState": {"ready": "Whether the part can be used.", "detail": "Its state, in words."},
    "ProblemDocument": {
        "title": "The code in words.", "status": "HTTP status.", "detail": "The fault, in one sentence.",
    },
    "Pruning": {
        "ratio": "Fraction of the layers' parameters that was to be removed.", "removed_fraction": "Fraction removed.",
        "criterion": "Importance of a unit.", "layout": "Where units were removed.",
        "compensation": "What makes up for removed units.", "width_multiple": "Multiple that widths were rounded to.",
        "removed_layers": "Whole layers removed, by their place in the dense model.",
        "parameters_before": "Parameters of the dense model.", "parameters_after": "Parameters of the pruned model.",
        "block_parameters_before": "Parameters of its layers.",
        "block_parameters_after": "Parameters of the pruned model's layers.",
        "bytes_before": "Bytes of the dense model in 16 bits.", "bytes_after": "Bytes of the pruned model in 16 bits.",
        "widths": "Widths of each layer.", "ratio_reason": "How the ratio came about.",
        "ratio_trials": "Ratios that were measured.",
    },
    "RatioTrial": {
        "ratio": "The ratio.", "removed_fraction": "Fraction removed.", "bits": "Bits of a weight, on average.",
    },
    "Readiness": {"ready": "Whether every part is ready.", "parts": "State of each part."},
    "Snippet": {"tool": "The tool that runs it.", "language": "Of the text.", "text": "The lines."},
    "StageView": {
        "name": "Name of the stage.", "status": "State of the stage.",
        "seconds": "Seconds it took; null until it has finished.",
    },
    "TrialList": {"trials": "The trials, in order."},
    "TrialView": {"index": "Number of the trial, from 0."},
}  # fmt: skip
"""By schema and field."""

PARAMETERS: Mapping[str, str] = {
    "job_id": "Id of the job.",
    "dataset_id": "Id of the dataset.",
    "name": "Name of the file, as the list of files has it.",
    "limit": "At most so many.",
    "after": "Only events with a greater id.",
    "model": "Only jobs of this model.",
    "created_after": "Only jobs made after this time.",
    "created_before": "Only jobs made before this time.",
    "key": "Place of the file in the store.",
    "signature": "Made by the service over key, name and expiry.",
}
"""By name."""
