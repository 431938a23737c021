"""What the metadata of a distribution take from those beside it."""

from __future__ import annotations

from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Dependencies(MetadataHookInterface):
    """What a distribution needs: packages of others, and in its own version those of its tree."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies; called in the tree alone, since an sdist has them already."""
        ours = (f"{name}=={metadata['version']}" for name in self.config["of-this-version"])
        metadata["dependencies"] = [*ours, *self.config["dependencies"]]
