"""Environments of our own: importing this makes them known to Gymnasium."""

from qladder.envs import catch, masked, shapes, sorting, tmaze

__all__ = ["catch", "masked", "shapes", "sorting", "tmaze"]
