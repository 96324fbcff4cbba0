"""What studies share: rows that are kept, resuming, the machine, texts and tasks, pages and plots, and the command."""
