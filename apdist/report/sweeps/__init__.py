"""What the page of a sweep shows, in numbers and pixels."""
