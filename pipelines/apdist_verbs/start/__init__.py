"""What a training starts from, checked before it begins: options, pictures, data."""
