"""What carries waiting past one process, on engines that backends run already; each part needs an extra.

Nothing of the client imports from here.
"""
