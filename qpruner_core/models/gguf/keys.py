"""The metadata of an architecture, read key by key, so that unread keys are detected."""

from __future__ import annotations

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError
from qpruner_core.models.gguf.header import Scalar, Value, corrupt
from qpruner_core.models.gguf.split import GgufModel

ARCHITECTURE = "general.architecture"
AS_SAFETENSORS = "Give the safetensors model that the file was made from."
_WITHOUT_EFFECT = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
"""Keys that do not affect the computation (the embedding has as many rows as it has)."""
_NEUTRAL: dict[str, tuple[Scalar, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0.0,),
    "expert_count": (0,),
    "expert_feed_forward_length": (0,),
    "expert_gating_func": (0, 1),  # not set, softmax
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_shared_count": (0,),
    "expert_shared_feed_forward_length": (0,),
    "expert_used_count": (0,),
    "expert_weights_scale": (0.0, 1.0),
    "final_logit_softcapping": (0.0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "rope.scaling.alpha": (0.0,),
}
"""Values that mean "not used", for keys that a family does not map."""


class ArchitectureKeys:
    """The keys ``<architecture>.*`` of a model; :meth:`refuse_unread` rejects those that no method has read.

    Numbers may be stored as one value or as a list with the same value for each layer.

    Raises:
        CorruptModelError: a key is missing or of another type.
        UnsupportedArchitectureError: a value differs between layers.
    """

    def __init__(self, model: GgufModel) -> None:
        name = model.metadata.get(ARCHITECTURE)
        if not isinstance(name, str):
            raise corrupt(model.path, f"its header has no {ARCHITECTURE}")
        self.architecture = name
        self.path = model.path
        prefix = f"{name}."
        self._values = {
            key.removeprefix(prefix): value for key, value in model.metadata.items() if key.startswith(prefix)
        }
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the key exists."""
        return name in self._values

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._one(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._one(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self._wrong(name, value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._one(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value)
        return value

    def text(self, name: str, default: str) -> str:
        """A word."""
        value = self._one(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value)
        return value

    def each_layer(self, name: str) -> list[Scalar] | int | None:
        """The value of a key that may differ between layers: a list, one number, or ``None`` if it is missing."""
        self._read.add(name)
        value = self._values.get(name)
        if value is not None and not isinstance(value, list | int):
            raise self._wrong(name, value)
        return value

    def refuse(self, name: str, why: str) -> UnsupportedArchitectureError:
        """The error for a key with an unsupported value."""
        return UnsupportedArchitectureError(
            f"{self.path.name} has {self.architecture}.{name} = {self._values.get(name)!r}: {why}.",
            field="model",
            remedy=AS_SAFETENSORS,
        )

    def refuse_unread(self) -> None:
        """Raise :class:`UnsupportedArchitectureError` for an unread key that may change the computation."""
        for name, value in self._values.items():
            if name in self._read or name in _WITHOUT_EFFECT:
                continue
            values = value if isinstance(value, list) else [value]
            if any(one not in _NEUTRAL.get(name, ()) for one in values):
                raise self.refuse(name, "its effect on the model is unknown")

    def _one(self, name: str, default: Scalar | None) -> Value:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise corrupt(self.path, f"its header has no {self.architecture}.{name}")
        if not isinstance(value, list):
            return value
        if not value or any(one != value[0] for one in value):
            raise self.refuse(name, "layers that differ in it are not supported")
        return value[0]

    def _wrong(self, name: str, value: Value) -> CorruptModelError:
        return corrupt(self.path, f"{self.architecture}.{name} is {value!r}")
