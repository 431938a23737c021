"""The documentation: its code runs, and its site is whole."""
