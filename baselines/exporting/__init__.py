"""Fitted models as ONNX graphs, which ``lulcbench map`` runs without torch."""
