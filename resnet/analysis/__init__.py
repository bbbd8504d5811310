"""What is done with finished runs: opened, evaluated, exported, compared, drawn."""
