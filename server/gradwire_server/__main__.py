"""The command ``gradwire``, and ``python -m gradwire_server``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command, or say in a line what is not installed."""
    # gRPC reads this when it is imported. What it would print stands in our messages already.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from gradwire_server import cli  # noqa: PLC0415  (the packages of the server are optional)
    except ModuleNotFoundError as error:
        sys.exit(f"gradwire: this command needs {error.name}: pip install 'gradwire[server]'")
    cli.main()


if __name__ == "__main__":
    main()
