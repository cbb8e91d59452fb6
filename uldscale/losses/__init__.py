"""The losses, on plain tensors. Knows no network, store or cluster."""
