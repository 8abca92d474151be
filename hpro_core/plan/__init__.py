"""What a run will cost, before it starts: its jobs, hours and bytes (`hpro plan`)."""
