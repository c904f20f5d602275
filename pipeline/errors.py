"""The errors that people see: each says what, where and how to mend; the command line prints them without a trace."""

from __future__ import annotations

from tokenmill.model.common.config_file import ConfigError, nearest

__all__ = ["ConfigError", "RunError", "nearest"]


class RunError(Exception):
    """The run failed or cannot start (exit code 1)."""
