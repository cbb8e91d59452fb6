"""Training on stored features: bootstrap, D-ULD, pose proxy, D-ULD++, with pseudo-labels renewed between steps."""
