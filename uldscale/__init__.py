"""Unsupervised landmark discovery with D-ULD++, at any scale."""

from importlib.metadata import version as _version

__version__ = _version("uldscale")
