"""The version of the distribution, once."""

__version__ = "1.0.0rc1"
