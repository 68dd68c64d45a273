"""What the commands in ``tools`` share.

Whatever a user may have got wrong ends a command here, with one paragraph on
what was given, what was expected and what to do, before anything is built or
written.
"""
