"""Check that the files of a model's tokenizer can be loaded, without loading the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

from qpruner_core.errors import CorruptModelError, ModelNotFoundError
from qpruner_core.models.json_files import corrupt_file, read_json_object, require_regular

TOKENIZER = "tokenizer.json"
GENERATION_CONFIG = "generation_config.json"
_SENTENCEPIECE = "tokenizer.model"
_SMALL_OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json")
_LARGEST_TOKENIZER = 256 * 2**20  # bytes; that of Gemma 3, with 262,144 tokens, has 33 million
_LARGEST_TEMPLATE = 2**20  # bytes; the longest in use have about ten thousand


def require_tokenizer_files(names: Iterable[str], model: str) -> None:
    """Reject a model without tokenizer files among its files (``names``).

    Raises:
        ModelNotFoundError: there are none, or only a SentencePiece model that no installed package reads.
    """
    found = set(names)
    if TOKENIZER in found or {"vocab.json", "merges.txt"} <= found:
        return
    if _SENTENCEPIECE in found and find_spec("sentencepiece") is None:
        raise ModelNotFoundError(
            f"The tokenizer of {model!r} is only a SentencePiece file ({_SENTENCEPIECE}), which is not supported.",
            field="model",
            remedy="Convert it where sentencepiece and protobuf are installed: "
            f"AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes {TOKENIZER}.",
        )
    if _SENTENCEPIECE not in found:
        raise ModelNotFoundError(
            f"The model {model!r} has no tokenizer.",
            field="model",
            remedy=f"Put the tokenizer's files ({TOKENIZER}, tokenizer_config.json) beside the weights.",
        )


def require_small_files(directory: Path) -> None:
    """Reject a model with unreadable tokenizer or generation settings.

    Raises:
        CorruptModelError: a file is not a JSON object, not a regular file, or far too large; or the vocabulary is
            empty.
    """
    for name in (*_SMALL_OBJECTS, GENERATION_CONFIG, "vocab.json"):
        require_regular(directory / name)
        if (directory / name).is_file():
            values = read_json_object(directory / name, keys_may_repeat=True)
            if values.get("fast_tokenizer_files"):
                raise corrupt_file(
                    name, "it names other tokenizers (fast_tokenizer_files), which would not be exported"
                )
    for template in (directory / "chat_template.jinja", *sorted(directory.glob("additional_chat_templates/*.jinja"))):
        _refuse_larger(template, _LARGEST_TEMPLATE, "chat template")
    for name in ("merges.txt", _SENTENCEPIECE, TOKENIZER):
        _refuse_larger(directory / name, _LARGEST_TOKENIZER, "tokenizer")
    path = directory / TOKENIZER
    if path.is_file():
        status = path.stat()
        _require_tokenizer(path, status.st_mtime_ns, status.st_size)


def _refuse_larger(path: Path, most: int, what: str) -> None:
    require_regular(path)
    if path.is_file() and (size := path.stat().st_size) > most:
        raise corrupt_file(path.name, f"it has {size} bytes, too many for a {what}")


@lru_cache(maxsize=64)
def _require_tokenizer(path: Path, modified: int, size: int) -> None:
    """Read ``path``, once for each state of the file."""
    with tokenizer_errors():
        tokenizer = Tokenizer.from_file(str(path))
    require_vocabulary(tokenizer.get_vocab_size(with_added_tokens=False))


def require_vocabulary(size: int) -> None:
    """Raise :class:`CorruptModelError` for a vocabulary without ordinary tokens."""
    if size == 0:
        raise corrupt_file(TOKENIZER, "its vocabulary is empty")


@contextmanager
def tokenizer_errors() -> Iterator[None]:
    """Translate all errors of reading a tokenizer into :class:`CorruptModelError`."""
    try:
        yield
    except BaseException as error:
        # A panic of the tokenizers' native code is not an Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if isinstance(error, CorruptModelError):
            raise
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorruptModelError(
            f"The model's tokenizer cannot be loaded: {first_line}",
            field="model",
            remedy="Put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the weights.",
        ) from error
