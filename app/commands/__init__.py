"""Commands that speak to a service, also one elsewhere. They import neither torch nor what the service runs on."""
