"""Will a viewer draw this object? Its rules, each with the place in its source where it was read."""
