"""Speed of a machine at the parts of the stages, and the resulting expected time of a run."""
