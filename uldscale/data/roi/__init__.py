"""Regions of interest: which part of an image a run looks at.

Prior work crops with the ground truth; what was used here is in the settings and the results, so every number can name it.
"""

from uldscale.data.roi.box_file import read_boxes
from uldscale.data.roi.boxes import distinct, margin_of, square
from uldscale.data.roi.providers import Provider, describe, make_provider
from uldscale.data.roi.settings import RoiConfig

__all__ = ["Provider", "RoiConfig", "describe", "distinct", "make_provider", "margin_of", "read_boxes", "square"]
