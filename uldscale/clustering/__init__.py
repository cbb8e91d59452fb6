"""Clustering: K-means on descriptors and pose codes, exemplars, and matching that keeps labels stable."""
