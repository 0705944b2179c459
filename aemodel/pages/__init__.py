"""What people read of a model: pages, cards, lines on a terminal."""
