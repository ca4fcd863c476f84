"""Reference models: training, prediction and reference scores."""
