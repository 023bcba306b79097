"""Serves published image classifiers over HTTP."""

__version__ = "0.1.0"
