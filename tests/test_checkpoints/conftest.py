"""What tests of loading read."""
import io
import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def said():
    """What mmengine's logger is told, as one text."""
    handler = logging.StreamHandler(io.StringIO())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler.stream.getvalue
    logger.removeHandler(handler)
