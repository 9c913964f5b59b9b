package storetest

// NewModel lets the suite be run against the model.
func NewModel() Store { return newModel() }
