package verify

func init() { // so that few tokens need several statements, and are too many
	readAtOnce, mostInUse = 10, MostInUse
}

// MostInUse is how many tokens are read again.
const MostInUse = 120
