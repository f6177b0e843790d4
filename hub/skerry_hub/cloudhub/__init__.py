"""The cloud hub: one session per device, each with its own task, bounded queue and flow control."""
