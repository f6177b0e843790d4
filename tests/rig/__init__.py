"""The rig: real mosquitto, containerd and boards on one machine. README.md shows how to use it."""

from . import images
from .device import Device
from .evidence import Container
from .images import Image, image
from .process import Process, RigError, until
from .run import sweep
from .site import Site

__all__ = ["Container", "Device", "Image", "Process", "RigError", "Site", "image", "images", "sweep", "until"]
