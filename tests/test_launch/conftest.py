"""The smallest models and data, which the tools are tested with as well."""
from tests.test_tools.conftest import refuse  # noqa: F401
from tests.test_tools.conftest import classifier, shapes  # noqa: F401
