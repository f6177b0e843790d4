"""Builds as units in workspaces: hermetic, keyed by content, their outputs shared by checkouts, projects and machines.

`declare` reads what there is to build, `keys` says what a unit is made of, `store` keeps what came out, `tools`,
`sandbox` and `fetch` touch the machine, `build` walks the graph. Knows nothing of skerry.
"""
