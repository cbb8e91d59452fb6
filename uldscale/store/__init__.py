"""The feature store: a sharded Zarr v3 group that actors fill, one shard each, and training reads at random."""
