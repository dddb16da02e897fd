"""The message bus: a port, a NATS adapter, an in-memory adapter with the same semantics, subjects and streams."""
