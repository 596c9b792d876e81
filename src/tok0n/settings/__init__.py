"""tok0n.toml and the environment, parsed once into frozen `Settings`. Faults are found all at once, in plain words."""

from tok0n.settings.check import check, model_of
from tok0n.settings.faults import Fault, SettingsInvalid
from tok0n.settings.parse import load
from tok0n.settings.schema import Secret, Settings
from tok0n.settings.template import template

__all__ = ["Fault", "Secret", "Settings", "SettingsInvalid", "check", "load", "model_of", "template"]
