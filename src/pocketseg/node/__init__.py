"""The DICOM node: series in, segmentations out.

What comes in is on the disk before it is answered, and everything after that is a step from one folder to the next: a
node that was killed goes on where it was. Associations are served by threads that look into headers alone; pixels are
decoded by a process of its own, as `pocketseg predict` does.
"""

from pocketseg.node.run import listen
from pocketseg.node.settings import Peer, Settings, Tls

__all__ = ["Peer", "Settings", "Tls", "listen"]
