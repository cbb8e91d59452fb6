"""The machines: Ray, DeepSpeed, process groups, telemetry, progress. Knows no landmark."""
