"""LiteLLM's proxy: Python, one worker, set up as its page "Production Best Practices" says, but without a database.

So it checks the master key and works out each call's cost, but has no users, no budgets and no ledger.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peers.interface import (
    Target,
    first_completion,
    install_from_pypi,
    installed,
    is_installed,
    note_installed,
    running,
    wait_for,
)

# The newest whose proxy can be installed: that of 1.108.8 and later pins companion packages that PyPI did not have.
LITELLM_VERSION = "1.108.7"
# "proxy-runtime" is what its container image has. Without OpenTelemetry, each request tries anew to import it.
REQUIREMENT = f"litellm[proxy,proxy-runtime]=={LITELLM_VERSION}"
PORT = 18092
MASTER_KEY = "sk-bench"

CONFIG = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench-upstream
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: sk-upstream
litellm_settings:
  request_timeout: 600
  set_verbose: false
  json_logs: true
general_settings:
  master_key: {master_key}
"""
ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its prices are otherwise fetched from GitHub as it starts
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteLLM:
    """One uvicorn worker, on the Python that runs the benchmark."""

    name: str = "litellm"
    what: str = f"LiteLLM proxy {LITELLM_VERSION}, one worker: checks one key; no database, so no budgets, no ledger"

    def install(self, folder: Path) -> None:
        """From PyPI, in an environment of its own."""
        if not is_installed(folder, REQUIREMENT):
            install_from_pypi(folder, REQUIREMENT)
            note_installed(folder, REQUIREMENT)

    @contextlib.contextmanager
    def start(self, folder: Path, *, upstream_port: int, core: str) -> Iterator[Target]:
        """Takes some ten seconds, of which most are imports."""
        folder.mkdir(parents=True, exist_ok=True)
        config, log = folder / "litellm.yaml", folder / "litellm.log"
        config.write_text(CONFIG.format(upstream_port=upstream_port, master_key=MASTER_KEY))
        command: list[str | Path] = [installed(self.name) / "bin" / "litellm", "--config", config]
        command += ["--host", "127.0.0.1", "--port", str(PORT), "--num_workers", "1"]
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        with running(command, core=core, log=log, environment=ENVIRONMENT) as process:
            target = Target(PORT, "/v1/chat/completions", "bench", headers, (process.pid,))
            wait_for(lambda: first_completion(target), process, log)
            yield target


LITELLM = LiteLLM()
