"""Cost estimates and progress of a run: jobs, hours and bytes (`hpro plan`)."""
