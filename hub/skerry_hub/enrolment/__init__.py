"""How a device becomes one: tokens, the authority that signs devices' certificates, and the server that they ask."""
