"""Evaluation: errors as the field measures them, quality of clusters, pictures. Knows arrays only, of any method."""
