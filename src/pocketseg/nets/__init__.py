"""The catalog of nets. Every net emits logits; sigmoid and softmax live outside."""

from pocketseg.nets.blocks import AnySize
from pocketseg.nets.catalog import NETS, build, check_net, default_options, parameter_count, skeleton
from pocketseg.nets.own import own_net
from pocketseg.nets.user_code import allow_code, allowed_code

__all__ = [
    "NETS",
    "AnySize",
    "allow_code",
    "allowed_code",
    "build",
    "check_net",
    "default_options",
    "own_net",
    "parameter_count",
    "skeleton",
]
