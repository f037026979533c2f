"""What the service costs while nobody asks it anything, and how soon it is there."""
