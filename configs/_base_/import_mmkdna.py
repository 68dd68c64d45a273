# mmkdna.py for a config whose other base has custom_imports of its own, which
# mmengine forbids two bases to have: that config sets custom_imports itself.
__import__('mmkdna')
