# The first base of every config here: registers the conv type and the
# backbones. The import happens while the config is read, and not by
# custom_imports alone, because it lets the bases behind this one be found
# (mmkdna/config.py); mmengine forbids an import statement in a config.
from importlib import import_module

import_module('mmkdna')

custom_imports = dict(imports=['mmkdna'], allow_failed_imports=False)
