"""What each tenant has in the store, how much it may have, and how long it is kept."""
