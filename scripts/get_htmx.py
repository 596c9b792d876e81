"""Put htmx beside our own assets: the exact version from the npm registry, checked by its hash, never committed.

Runs when .venv is made and when a wheel is built. Without it pages load whole, and everything works all the same: so
a registry that cannot be reached is said, and is no failure, but for `--required`.
"""

import base64
import hashlib
import io
import os
import sys
import tarfile
import urllib.request
from pathlib import Path

VERSION = "4.0.1"
SHA512 = "oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg=="
"""npm view htmx.org@VERSION dist.integrity"""

MEMBER = "package/dist/htmx.min.js"
SECONDS_MAX = 30
ASSETS = Path(__file__).resolve().parent.parent / "src" / "tok0n" / "web" / "assets"
TARGET = ASSETS / "htmx.min.js"
MADE = ASSETS / ".htmx"


def get() -> None:
    """Fetch and check it, unless this version is there. Raises `OSError`, or `ValueError` for other bytes."""
    if TARGET.exists() and MADE.exists() and MADE.read_text() == f"{VERSION} {_digest(TARGET)}":
        return
    registry = os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")  # noqa: SIM112  npm's spelling
    with urllib.request.urlopen(f"{registry}/htmx.org/-/htmx.org-{VERSION}.tgz", timeout=SECONDS_MAX) as answer:
        packed = answer.read()
    if base64.b64encode(hashlib.sha512(packed).digest()).decode() != SHA512:
        raise ValueError(f"what {registry} gave is not htmx {VERSION}: its hash differs")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        file = archive.extractfile(MEMBER)
        assert file is not None
        TARGET.write_bytes(file.read())
    MADE.write_text(f"{VERSION} {_digest(TARGET)}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    try:
        get()
    except (OSError, ValueError) as error:
        print(f"htmx could not be had ({error}); pages will load whole.", file=sys.stderr)
        sys.exit("--required" in sys.argv)
