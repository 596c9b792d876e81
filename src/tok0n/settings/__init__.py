"""Load tok0n.toml and the environment into frozen `Settings`. Reports all errors at once."""

from tok0n.settings.faults import Fault, SettingsInvalid
from tok0n.settings.load import find_faults, load, model_of, template, with_port
from tok0n.settings.machine import check
from tok0n.settings.schema import Settings, SiteSettings
from tok0n.settings.secret import Secret

__all__ = [
    "Fault",
    "Secret",
    "Settings",
    "SettingsInvalid",
    "SiteSettings",
    "check",
    "find_faults",
    "load",
    "model_of",
    "template",
    "with_port",
]
