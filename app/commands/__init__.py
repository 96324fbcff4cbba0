"""Commands for a service, local or remote. They import neither torch nor the dependencies of the service."""
