"""The stages of a build, in order: plan, search, materialize, pack, audit, publish."""
