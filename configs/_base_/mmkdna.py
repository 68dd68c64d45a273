# The first base of every config here: registers the conv type and the
# backbones. The import happens while the config is read, and not by
# custom_imports alone, because it lets the bases behind this one be found
# (mmkdna/config.py); mmengine forbids an import statement in a config, on
# Python 3.11 even one of importlib.
__import__('mmkdna')

custom_imports = dict(imports=['mmkdna'], allow_failed_imports=False)
