"""Training: the loop of all networks, checkpoints, calibration, model card."""
