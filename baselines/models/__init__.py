"""Models, one module per family: networks, and simple models for comparison."""

from baselines.models.base import MODELS, Fitted, ModelConfig, Predictor
from baselines.registry import discover

__all__ = ["MODELS", "Fitted", "ModelConfig", "Predictor"]

discover(__name__, __path__)
