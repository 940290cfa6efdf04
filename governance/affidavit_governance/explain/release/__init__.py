"""What of an explanation may leave, what it gives away, and reasons in words."""
