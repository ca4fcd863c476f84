"""Comparisons of finished releases with what is known of the same places: tables and pictures for people."""
