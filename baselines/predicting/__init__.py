"""Prediction with trained models: of a split, or of single patches."""
