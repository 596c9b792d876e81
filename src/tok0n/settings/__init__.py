"""tok0n.toml and the environment, parsed once into frozen `Settings`. Faults are found all at once, in plain words."""

from tok0n.settings.check import check
from tok0n.settings.faults import Fault, SettingsInvalid
from tok0n.settings.parse import find_faults, load, model_of, with_port
from tok0n.settings.schema import Settings
from tok0n.settings.secret import Secret
from tok0n.settings.template import template

__all__ = [
    "Fault",
    "Secret",
    "Settings",
    "SettingsInvalid",
    "check",
    "find_faults",
    "load",
    "model_of",
    "template",
    "with_port",
]
