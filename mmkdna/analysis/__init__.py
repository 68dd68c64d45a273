"""What sharing costs and saves, who shares with whom, and how fast it is."""
from .cost import Cost, image_shape, model_cost
from .graph import draw_sharing

__all__ = ['Cost', 'draw_sharing', 'image_shape', 'model_cost']
