"""``build DIRECTORY`` builds the site into ``DIRECTORY/site``, strictly; ``serve`` shows it while pages change."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tools.site.staging import DOCS, ROOT, Stage

ZENSICAL = [sys.executable, "-m", "zensical"]


def build(folder: Path) -> None:
    """Build the site; ends the process if a block, a cell, a link or an anchor is wrong."""
    Stage(folder).lay_out()
    command = [*ZENSICAL, "build", "--strict", "--config-file", str(folder / "mkdocs.yml")]
    done = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603  (it is ours)
    sys.exit(done.returncode)


def serve(folder: Path) -> None:
    """Serve the site on this machine until it is interrupted."""
    stage = Stage(folder)
    stage.lay_out()
    command = [*ZENSICAL, "serve", "--config-file", str(folder / "mkdocs.yml")]
    with subprocess.Popen(command, cwd=ROOT) as server:  # noqa: S603  (as above)
        seen = time.time()
        try:
            while server.poll() is None:
                time.sleep(1)
                since, seen = seen, time.time()
                changed = [path for path in DOCS.rglob("*") if path.is_file() and path.stat().st_mtime > since]
                for path in changed:
                    try:
                        stage.put(path)
                    except Exception as error:  # noqa: BLE001  (whatever a page's code raises; its writer mends it)
                        print(f"{path}: {error}", file=sys.stderr)  # noqa: T201  (for the person at the terminal)
        except KeyboardInterrupt:
            server.terminate()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", into]:
            build(Path(into).resolve())
        case ["serve"]:
            serve(ROOT / ".cache" / "site")
        case _:
            sys.exit(__doc__)
