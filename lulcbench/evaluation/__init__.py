"""Evaluation of predictions: counts, metrics, intervals, comparisons, LUCAS points. Does not import torch."""
