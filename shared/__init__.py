"""What every service shares: messages, money, the bus, stores, exchanges and the way a service lives."""
