"""In which type a run computes, chosen for the machine."""
