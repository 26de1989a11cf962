"""Studies as data: scales, settings, sweeps and claims. Standard library and `replication.config` only."""
