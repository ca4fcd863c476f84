"""Predicting: from a trained model to predictions of a split, or of single patches."""
