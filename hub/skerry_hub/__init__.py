"""skerry-hub: the fleet of skerry devices behind plain kubectl."""

__version__ = "0.1.0"
