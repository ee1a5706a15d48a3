"""What codes and keys mean, in general and in one config."""
