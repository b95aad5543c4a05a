"""Dead letters: reading them, judging them anew, correcting them, sending them again."""
