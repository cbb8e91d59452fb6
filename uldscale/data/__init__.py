"""Images, annotations and regions of interest: what goes into a run."""
