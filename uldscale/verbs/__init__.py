"""What a person asks beside a run; a verb a file."""
