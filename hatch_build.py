"""What a wheel holds beside the source: htmx, and the docs that the app renders."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface[Any]):
    """Runs before the wheel is packed; an editable install needs nothing of it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Get htmx, and name what is not in the repository's list of files."""
        if version == "editable" or self.target_name != "wheel":
            return
        root = Path(self.root)
        subprocess.run([sys.executable, root / "scripts" / "get_htmx.py"], check=True)
        build_data["artifacts"].append("src/tok0n/web/assets/htmx.min.js")
        build_data["force_include"][str(root / "docs")] = "tok0n/docs"
