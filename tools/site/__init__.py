"""The documentation as a site: ``python -m tools.site build DIRECTORY``, and ``serve``."""
