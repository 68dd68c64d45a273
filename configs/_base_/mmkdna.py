# The first base of every config here: registers the conv type and the
# backbones. The import comes now, and not with custom_imports alone, because
# the bases behind this one may need it to be found (mmkdna/config.py).
import mmkdna  # noqa: F401

custom_imports = dict(imports=['mmkdna'], allow_failed_imports=False)
