"""The pure parts of the market data service: feeds made of steps, and the pacing between steps."""
