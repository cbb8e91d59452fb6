"""Unsupervised landmark discovery with D-ULD++, at any scale."""
