"""The whole image in full-system QEMU, with a real hub beside it. `make qemu` runs the long form."""
