"""The smallest models and data, which the tools are tested with as well."""
from tests.test_tools import conftest as tools

classifier = tools.classifier
