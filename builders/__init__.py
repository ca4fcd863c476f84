"""Scenes become a release: plan, search, materialize, pack, audit, publish."""
