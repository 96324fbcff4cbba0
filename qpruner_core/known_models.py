"""Cache of inspected models and datasets and of their plans, valid while their files do not change.

Inspecting a model reads its headers and builds it without its weights, and so does planning; both take a large part of
a second. The results depend on the model's identity and the settings only, so each is computed once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from transformers import PretrainedConfig

from qpruner_core.config import CompressionConfig
from qpruner_core.data import DatasetDescription, inspect_dataset, inspect_dataset_here
from qpruner_core.errors import ModelNotFoundError
from qpruner_core.hub import HubRepository, parse_hub_id
from qpruner_core.local_paths import is_local_reference, resolve_local_path, unreadable_as_error
from qpruner_core.models.facts import ModelFacts, config_of_facts, facts_of, model_identity, tokenizer_directory
from qpruner_core.models.families import find_family
from qpruner_core.models.inspect import inspect_found
from qpruner_core.models.source import LocalModel, locate_model
from qpruner_core.planner import PLANNED_BY, Planner
from qpruner_core.source_policy import SourcePolicy, is_uploaded_model

_MOST_MODELS = 64
_MOST_PLANNERS = 256
_MOST_DATASETS = 256
_HUB_SECONDS = 60.0
"""Seconds for which the commit of a hub branch is trusted; a run checks it again before it downloads."""
_Value = TypeVar("_Value")


class FactsStore(Protocol):
    """Storage of facts beyond the life of the process."""

    def find(self, identity: str) -> ModelFacts | None:
        """Stored facts of the model of that identity, if any."""

    def keep(self, identity: str, facts: ModelFacts) -> None:
        """Store the facts of a model."""

    def of_upload(self, model_id: str) -> ModelFacts | None:
        """The facts of an uploaded model, which were taken when it was checked; ``None`` if there is none that the
        caller may use."""


class KnownModel(NamedTuple):
    """A model that can be planned for. ``directory``: location of its tokenizer, if local."""

    identity: str
    config: PretrainedConfig
    directory: Path | None


class KnownModels:
    """Thread-safe cache; if several threads need a value at once, one computes it.

    Path permissions are checked on each call with the given policy. ``slowly``: context entered while a value is
    computed or requested from a hub.
    """

    def __init__(
        self, store: FactsStore | None = None, slowly: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._store = store
        self._slowly = slowly
        self._located: _Remembered[tuple[HubRepository, float]] = _Remembered(_MOST_MODELS)
        self._configs: _Remembered[PretrainedConfig] = _Remembered(_MOST_MODELS)
        self._planners: _Remembered[Planner] = _Remembered(_MOST_PLANNERS)
        self._datasets: _Remembered[DatasetDescription] = _Remembered(_MOST_DATASETS)

    @unreadable_as_error("model")
    def model(self, reference: str, policy: SourcePolicy) -> KnownModel:
        """The model of ``reference``. Raises as :func:`qpruner_core.models.inspect_model` does."""
        if is_uploaded_model(reference) and reference not in policy.uploads and self._store is not None:
            return self._uploaded(reference, self._store)
        found = self._locate(reference, policy)
        identity = model_identity(found)
        config = self._work_out(self._configs, identity, lambda: self._look(identity, reference, found, policy))
        return KnownModel(identity, config, tokenizer_directory(found))

    def planner(self, config: CompressionConfig, model: KnownModel) -> Planner:
        """The planner of a run of ``config`` on ``model``: bytes at each ratio."""
        key = (model.identity, model.directory, _planned_by(config))
        planner = self._work_out(
            self._planners,
            key,
            lambda: _planned(Planner(config, model.config, find_family(model.config.model_type), model.directory)),
        )
        return planner.for_run(config)

    @unreadable_as_error("dataset")
    def dataset(self, reference: str, policy: SourcePolicy) -> DatasetDescription | None:
        """The dataset of ``reference``; ``None`` for a hub dataset that is not downloaded yet, which the run does.

        Raises as :func:`qpruner_core.data.inspect_dataset` does.
        """
        key = _local_dataset(reference, policy)
        if key is None:
            with self._slowly():
                return inspect_dataset_here(reference, policy)
        return self._work_out(self._datasets, key, lambda: inspect_dataset(reference, policy))

    def _work_out(self, values: _Remembered[_Value], key: Hashable, work_out: Callable[[], _Value]) -> _Value:
        known = values.peek(key)
        if known is not None:
            return known
        with self._slowly():
            return values.get(key, work_out)

    def _locate(self, reference: str, policy: SourcePolicy) -> LocalModel | HubRepository:
        found = self._remembered_location(reference, policy)
        if found is None:
            with self._slowly():
                found = locate_model(reference, policy)
            if isinstance(found, HubRepository):
                until = time.monotonic() + _HUB_SECONDS
                self._located.put(_hub_key(reference, policy), (found, until))
        return found

    def _remembered_location(self, reference: str, policy: SourcePolicy) -> LocalModel | HubRepository | None:
        """The source of ``reference`` without hub requests; ``None`` if that needs one."""
        is_hub_id = not is_local_reference(reference, policy) and parse_hub_id(reference) is not None
        if not is_hub_id or not policy.allow_hub:
            return locate_model(reference, policy)
        known = self._located.peek(_hub_key(reference, policy))
        return known[0] if known is not None and time.monotonic() < known[1] else None

    def _uploaded(self, model_id: str, store: FactsStore) -> KnownModel:
        """An upload by its stored facts: its files are elsewhere. An id always refers to the same files, but the upload
        may be another caller's, or deleted: the store is consulted on each call."""
        facts = store.of_upload(model_id)
        if facts is None:
            raise ModelNotFoundError(
                f"There is no model {model_id!r}.", field="model", remedy="Upload one with POST /models."
            )
        config = self._work_out(self._configs, model_id, lambda: config_of_facts(facts))
        return KnownModel(model_id, config, None)

    def _look(
        self, identity: str, reference: str, found: LocalModel | HubRepository, policy: SourcePolicy
    ) -> PretrainedConfig:
        stored = None if self._store is None else self._store.find(identity)
        if stored is not None:
            return config_of_facts(stored)
        description = inspect_found(reference, found, policy)
        if self._store is not None:
            self._store.keep(identity, facts_of(description))
        return description.config


def _planned(planner: Planner) -> Planner:
    """``planner`` after it has computed the values that a run needs first."""
    planner.smallest(planner.largest_ratio())
    return planner


def _planned_by(config: CompressionConfig) -> str:
    return config.model_dump_json(include=set(PLANNED_BY))


def _hub_key(reference: str, policy: SourcePolicy) -> Hashable:
    return reference, policy.hub_endpoint, policy.hub_token, policy.implicit_login, policy.cache_dir


def _local_dataset(reference: str, policy: SourcePolicy) -> Hashable | None:
    """Fingerprint of a local dataset file, to detect changes; ``None`` for other references and missing files."""
    if reference in policy.uploads or not is_local_reference(reference, policy):
        return None
    path = resolve_local_path(reference, policy, "dataset")
    if not path.is_file():
        return None
    state = path.stat()
    times = state.st_mtime_ns, state.st_ctime_ns
    return path, policy.max_dataset_bytes, state.st_dev, state.st_ino, state.st_size, *times


class _Remembered(Generic[_Value]):
    """Least-recently-used cache; each value is computed by one thread. Errors are not cached."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._at_work: dict[Hashable, threading.Lock] = {}

    def peek(self, key: Hashable) -> _Value | None:
        """The cached value of ``key``, if any."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: _Value) -> None:
        """Store ``value``, and drop the least recently used one."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def get(self, key: Hashable, work_out: Callable[[], _Value]) -> _Value:
        """The value of ``key``, computed on first use."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            at_work = self._at_work.setdefault(key, threading.Lock())
        with at_work:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = work_out()
                self.put(key, value)
            finally:
                with self._lock:
                    self._at_work.pop(key, None)
        return value
