"""Descriptions of fields and parameters whose models have none, mostly results of the core."""

from __future__ import annotations

from collections.abc import Mapping

ANY_SCHEMA: Mapping[str, str] = {
    "bytes": "Size in bytes.",
    "sha256": "SHA-256 of the content, in hex.",
    "created_at": "Creation time.",
    "memory_budget": "Bytes of the loaded model's weights.",
    "loss": "Nats per token; lower is better.",
    "precisions": "Precision of each of `groups`, in order.",
    "groups": "Units that each have their own precision.",
}
"""By field, for every schema without a better description."""

_STAGE_SETTINGS: Mapping[str, str] = {
    "prune": "Settings of pruning.", "score": "Settings of scoring.", "allocate": "Settings of the search.",
    "quantize": "Settings of quantization.", "finetune": "Settings of recovery.",
    "evaluate": "Settings of the evaluation.", "export": "Settings of the export.",
}  # fmt: skip
FIELDS: Mapping[str, Mapping[str, str]] = {
    "Alive": {"status": "Always `alive`."},
    "ArtifactList": {"artifacts": "The files."},
    "ArtifactView": {
        "name": "File name of the download.", "format": "Kind of file: gguf, tar, json or md.",
        "expires_at": "When the signed URL expires.",
    },
    "BytesByPart": {
        "embeddings": "Bytes of embeddings and head.", "layers": "Bytes of the layers' weights.",
        "norms": "Bytes of norms and biases.",
        "quantization_constants": "Bytes of scales and other constants of quantized weights.",
        "adapters": "Bytes of adapters.",
    },
    "CompressionReport": {
        "model": "Model as given in the request.", "revision": "Commit of the hub; null for other models.",
        "dataset": "Dataset as given in the request.", "device": "Device of `fit`, if given.",
        "seed": "Random seed.", "compute": "Type of matrix products and processor; null in old reports.",
        "prune_ratio": "Requested fraction of the layers' parameters to remove.", "pruning": "Result of pruning.",
        "widths": "Widths of each layer after pruning.", "predicted_bytes": "Predicted bytes.",
        "measurements": "The before/after table.", "exported": "The checkpoints, the recommended one first.",
        "stage_seconds": "Seconds of each stage.", "warnings": "Warnings of the run.",
        "files": "Files of the checkpoints.", "stored": "Precisions that modules are stored in.",
    },
    "Compute": {
        "products": "Type of matrix products.", "reason": "Reason for that type, in a sentence.",
        "processor": "Model of the CPU or GPU.", "threads": "CPU threads.",
    },
    "CurvePoint": {"step": "Step of the optimiser.", "value": "Value at that step."},
    "DatasetPage": {"datasets": "The datasets."},
    "DatasetView": {
        "id": "Id of the dataset.", "filename": "Name of the file, sanitised.", "records": "Number of records.",
    },
    "DeviceMemory": {
        "memory": "Memory of the device that the engine may use.", "weights": "Bytes left for weights.",
        "kv_cache": "Bytes of keys and values.", "activations": "Bytes of hidden states, buffers and logits.",
        "engine": "Bytes of the engine itself and of memory that it leaves to others.",
        "context": "Tokens of the longest sequence.", "sequences": "Sequences served at the same time.",
        "cache_type": "Type of keys and values.", "target": "The engine's target.",
    },
    "Estimate": {
        "feasible": "Whether the budget is feasible.", "device": "Device of `fit`, if given.",
        "smallest_feasible_memory": "Smallest feasible memory of such a device.",
        "dense_bytes": "Bytes of the dense model.", "smallest_feasible_bytes": "Smallest feasible budget.",
        "prune_ratio": "Fraction of the layers' parameters to remove.",
        "predicted_bytes": "Bytes by part, with the lowest precision everywhere.",
        "predicted_total_bytes": "Sum of all parts.", "notes": "Assumptions behind bytes and times.",
        "stage_seconds": "Expected seconds of each stage; empty while no machine's speed is known.",
    },
    "ExportedFormat": {
        "name": "Name of the format.", "title": "Description of the format.",
        "path": "Path in the output directory of a run.",
        "artifact": "Name of the job's artifact.", "snippets": "Commands or code that run it.",
    },
    "Fault": {"detail": "The error, in one sentence."},
    "FileRecord": {"path": "Path relative to the folder of the checkpoints."},
    "JobErrorView": {
        "code": "Stable identifier of the error.", "message": "The error, in one sentence.",
        "field": "Dotted path of the invalid setting.", "remedy": "Suggested remedy.",
    },
    "JobLinks": {
        "self": "The job.", "events": "Its history.", "trials": "Its search.", "metrics": "Its curves.",
        "artifacts": "Its files.",
    },
    "JobPage": {"jobs": "The jobs."},
    "EstimateRequest": _STAGE_SETTINGS,
    "JobRequest": _STAGE_SETTINGS,
    "JobView": {
        "id": "Id of the job.", "status": "State of the job.", "max_attempts": "Attempts before the job fails.",
        "model": "Model as given in the request.", "dataset": "Dataset as given in the request.",
        "labels": "Your own names and values.", "started_at": "Start of its first attempt.",
        "finished_at": "End time.", "stages": "The seven stages, in order.",
        "links": "Paths of the job's sub-resources.",
    },
    "JobSummary": {
        "id": "Id of the job.", "status": "State of the job.", "model": "Model as given in the request.",
        "dataset": "Dataset as given in the request.", "labels": "Your own names and values.",
        "started_at": "Start of its first attempt.", "finished_at": "End time.",
        "max_attempts": "Attempts before the job fails.", "links": "Paths of the job's sub-resources.",
    },
    "Measurement": {
        "variant": "Identifier of the row.", "label": "Name of the row.", "parameters": "Parameters of the model.",
        "file_bytes": "Bytes of its files; null if it was not exported.",
        "perplexity": "Exponential of the mean loss per held-out token.",
        "divergence": "Mean KL divergence from the dense model, nats per token.",
        "top1_agreement": "Share of tokens for which both models predict the same next token.",
        "compared_tokens": "Held-out tokens of these two measurements.",
        "accuracy": "Share of multiple-choice examples answered right; null without such examples.",
        "accuracy_stderr": "Its standard error.", "tokens_per_second": "Greedy generation at batch 1.",
        "prefill_tokens_per_second": "Speed of reading a prompt; null in torch.",
        "speed_engine": "Engine that speeds were measured in.",
    },
    "PartState": {"ready": "Whether the part can be used.", "detail": "Its state, in words."},
    "ProblemDocument": {
        "title": "The code in words.", "status": "HTTP status.", "detail": "The error, in one sentence.",
    },
    "Pruning": {
        "ratio": "Requested fraction of the layers' parameters to remove.", "removed_fraction": "Fraction removed.",
        "criterion": "Criterion of importance.", "layout": "How removal was spread across layers.",
        "compensation": "Compensation for removed units.", "width_multiple": "Multiple that widths were rounded to.",
        "removed_layers": "Whole layers removed, by their position in the dense model.",
        "parameters_before": "Parameters of the dense model.", "parameters_after": "Parameters of the pruned model.",
        "block_parameters_before": "Parameters of its layers.",
        "block_parameters_after": "Parameters of the pruned model's layers.",
        "bytes_before": "Bytes of the dense model in 16 bits.", "bytes_after": "Bytes of the pruned model in 16 bits.",
        "widths": "Widths of each layer.", "ratio_reason": "Reason for the ratio.",
        "ratio_trials": "Ratios that were measured.",
    },
    "RatioTrial": {
        "ratio": "The ratio.", "removed_fraction": "Fraction removed.", "bits": "Average bits per weight.",
    },
    "Readiness": {"ready": "Whether every part is ready.", "parts": "State of each part."},
    "Snippet": {"tool": "The tool that runs it.", "language": "Language of the text.", "text": "The commands or code."},
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
    "name": "Name of the file, from the list of files.",
    "limit": "Maximum number.",
    "after": "Only events with a greater id.",
    "model": "Only jobs of this model.",
    "created_after": "Only jobs created after this time.",
    "created_before": "Only jobs created before this time.",
    "key": "Key of the file in the store.",
    "signature": "Signature of the service over key, name and expiry.",
}
"""By name."""
