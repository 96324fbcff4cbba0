"""How fast a machine does what the stages are made of, and what that says of a run that is still to come."""
