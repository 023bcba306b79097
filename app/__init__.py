"""Serves published image classifiers over HTTP."""
