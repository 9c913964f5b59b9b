package storetest_test

import (
	"testing"

	"tokend/tokend/store/storetest"
)

func TestModelKeepsThePromisesOfEveryStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return storetest.NewModel() })
}
