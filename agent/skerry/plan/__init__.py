"""Pure decisions. Time is an argument, randomness is an argument, nothing here touches the world."""
