"""Studies: TOML files that list configs, settings, seeds and comparisons; the runner computes what is missing."""
