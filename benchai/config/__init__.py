"""Configuration: the models of benchai.yaml, where it is found, and where a user's state lives."""

from benchai.config.load import LoadedConfig, find_config, load_config
from benchai.config.models import ROLES, Config, ModelConfig, default_config

__all__ = ["ROLES", "Config", "LoadedConfig", "ModelConfig", "default_config", "find_config", "load_config"]
