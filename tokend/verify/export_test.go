package verify

func init() { readAtOnce = 10 } // so that few tokens need several statements
