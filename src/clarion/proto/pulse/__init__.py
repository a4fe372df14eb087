"""What the speaker's main process and its pulse process say to each other."""
