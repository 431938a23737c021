"""Sections of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Some settings that belong together; its docstring is their title in the help."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
