"""The real adapters of the seams in ports.py. Only these modules and boot.py touch the machine."""
