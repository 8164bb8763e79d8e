"""The HTTP service: images in, masks out, by processes that each hold the models and one thread of the engine.

The front process speaks HTTP, holds requests within limits and looks into no image. What it lets in lies as a file in a
folder of its own, and one of the worker processes reads it, as `pocketseg predict` would.
"""

from pocketseg.server.run import serve
from pocketseg.server.settings import Settings

__all__ = ["Settings", "serve"]
