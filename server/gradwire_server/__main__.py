"""``python -m gradwire_server`` is the command ``gradwire``."""

from gradwire_server.cli import main

if __name__ == "__main__":
    main()
