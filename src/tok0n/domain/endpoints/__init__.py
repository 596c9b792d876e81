"""The endpoints that Tok0n serves. Each module of this package that describes one adds it: see `Endpoint`."""

import importlib
import pkgutil

from tok0n.domain.endpoints.endpoint import Endpoint


def find() -> tuple[Endpoint, ...]:
    """Import the modules of this package, and return their endpoints in the order of their paths."""
    by_path: dict[str, Endpoint] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for member in vars(importlib.import_module(module.name)).values():
            if isinstance(member, Endpoint):
                by_path[member.path] = member
    return tuple(by_path[path] for path in sorted(by_path))


ENDPOINTS = find()

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS if not endpoint.served_with}
"""The endpoints that the setting `endpoints` of a model can name."""
