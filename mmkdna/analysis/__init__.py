"""What sharing costs and saves."""
from .cost import Cost, image_shape, model_cost

__all__ = ['Cost', 'image_shape', 'model_cost']
