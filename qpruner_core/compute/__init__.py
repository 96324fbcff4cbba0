"""Type of matrix products, chosen for the machine."""
