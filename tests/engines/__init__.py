"""The engines that checkpoints are made for, as the tests run them."""
