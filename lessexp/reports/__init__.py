"""Run folders to tables and logs."""
