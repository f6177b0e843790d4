"""From a board's twelve lines to an image that can be flashed.

`manifest`, `layers`, `kernel`, `layout`, `lock`, `sbom` decide on values and open nothing; `read` brings what lies in
firmware-configs/; `debs`, `root`, `initrd`, `disk` and `bmap` act. Everything is checked before anything is written.
"""
