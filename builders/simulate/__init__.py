"""Simulated source scenes: the embedded default that needs no network."""
