"""Reading datasets, splitting them, and turning them into tokens."""

from qpruner_core.data.known_tokens import require_known_tokens, tokens_of, tokens_of_choices
from qpruner_core.data.limits import refuse_too_few_bytes
from qpruner_core.data.prepare import DataDigests, PreparedData, prepare_data
from qpruner_core.data.reader import DatasetDescription, inspect_dataset, inspect_dataset_here, read_dataset
from qpruner_core.data.records import DatasetKind, TextDataset
from qpruner_core.data.tokenization import ChoiceExample, Example

__all__ = [
    "ChoiceExample",
    "DataDigests",
    "DatasetDescription",
    "DatasetKind",
    "Example",
    "PreparedData",
    "TextDataset",
    "inspect_dataset",
    "inspect_dataset_here",
    "prepare_data",
    "read_dataset",
    "refuse_too_few_bytes",
    "require_known_tokens",
    "tokens_of",
    "tokens_of_choices",
]
