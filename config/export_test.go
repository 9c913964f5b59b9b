package config

// Keys returns the name of every key there is, each behind its section and a
// dot: "auth.socket".
func Keys() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}
