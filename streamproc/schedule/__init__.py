"""Trigger 3, time: schedules become records on the stream, one for each time, whatever the number of processes."""
