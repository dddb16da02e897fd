"""What every venue's wire has in common: the venue itself, HTTP with its faults, websocket sessions, request limits."""
