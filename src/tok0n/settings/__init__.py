"""Load tok0n.toml and the environment into frozen `Settings`. Reports all errors at once."""

from tok0n.settings.load import find_problems, load, model_of, template, with_port
from tok0n.settings.machine import find_machine_problems
from tok0n.settings.problems import SettingsInvalid, SettingsProblem
from tok0n.settings.schema import Settings, SiteSettings
from tok0n.settings.secret import Secret
