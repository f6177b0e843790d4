"""The language between device and hub, sans-IO, used by both ends. The contract is docs/wire-protocol.cddl."""
