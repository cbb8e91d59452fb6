"""One verb a file: what a run does, in the order in which it does it."""
