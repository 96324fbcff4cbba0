"""Read YAML whose mappings have each key once."""

from __future__ import annotations

from typing import Any

import yaml

from qpruner_core.repeated_keys import RepeatedKeyError


def unique_yaml(text: str) -> Any:
    """The plain values in ``text``.

    Raises:
        RepeatedKeyError: a mapping has a key twice, of which PyYAML would take the last.
        yaml.YAMLError: it is not YAML, or has other than plain values.
    """
    return yaml.load(text, _UniqueLoader)


class _UniqueLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Of a mapping as written, before keys of others are merged into it ("<<")."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    place = f"line {key.start_mark.line + 1}"
                    raise RepeatedKeyError(f"it has the key {key.value[:80]!r} twice ({place})")
                seen.add((key.tag, key.value))
        return node
