"""Heft estimates what each training sample is worth and trains with those weights."""

__version__ = "0.1.0"
__all__ = ["__version__"]
