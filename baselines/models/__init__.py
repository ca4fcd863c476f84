"""The models: networks, and the simple models that they are compared with; one module per family."""

from baselines.models.base import MODELS, Fitted, ModelConfig, Predictor
from baselines.registry import discover

__all__ = ["MODELS", "Fitted", "ModelConfig", "Predictor"]

discover(__name__, __path__)
