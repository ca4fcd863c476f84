"""Reference models: a release becomes predictions."""
