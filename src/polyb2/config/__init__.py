"""The settings: kinds of values, the groups with every setting, and how a process gets its own."""

from polyb2.config.groups import default_worker_id
from polyb2.config.settings import Settings, load_settings, setting_notices

__all__ = ["Settings", "default_worker_id", "load_settings", "setting_notices"]
