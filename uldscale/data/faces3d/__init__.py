"""Synthetic pictures of a deformable 3D head with exact landmarks: data to train and test on without a download."""

from __future__ import annotations

from uldscale.data.faces3d.portrait import Face, render

__all__ = ["Face", "render"]
