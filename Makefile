# make build   bin/tokend and bin/pamhelper, static
# make demo    a token logs in, and others do not: needs Go alone
# make test    everything; installs with apt what it needs
# make check   vet, lint and unit tests, in short: three minutes
# make bench   the helper against a C program, checks per second, and daemons over PostgreSQL and Redis

.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

BIN      ?= bin

GOLANGCI := v2.15.0
# A count, not a time: go test may fail when a time is up (context deadline exceeded).
FUZZTIME ?= 50000x

# The version is stamped below; go's own way fails in a tree that another user owns.
export GOFLAGS  += -buildvcs=false
BUILD_FLAGS     := -trimpath
VERSION_PACKAGE := github.com/prometheus/common/version
TOKEND_FLAGS    := -s -w -X $(VERSION_PACKAGE).Version=$(VERSION) -X $(VERSION_PACKAGE).Revision=$(REVISION)
# The helper's own entry point instead of Go's runtime: see docs/pamhelper.md.
HELPER_FLAGS    := -s -w -E main.entry

.PHONY: build
build:
	CGO_ENABLED=0 go build $(BUILD_FLAGS) -ldflags '$(TOKEND_FLAGS)' -o $(BIN)/tokend ./tokend
	CGO_ENABLED=0 go build $(BUILD_FLAGS) -ldflags '$(HELPER_FLAGS)' -o $(BIN)/pamhelper ./pamhelper

.PHONY: demo
demo:
	go run ./tokend/e2e/demo

.PHONY: test
test: tools lint unit fuzz e2e
	@echo "all tests passed"

# Random scripts are fewer than in make test, what waits for ten seconds is left out, and races are not looked for.
.PHONY: check
check: tools lint
	go test -short $$(go list ./... | grep -v /e2e)

# What the tests need of Debian or Ubuntu.
.PHONY: tools
tools:
	packaging/test-tools

.PHONY: unit
unit:
	go test -race -timeout 20m $$(go list ./... | grep -v /e2e)

# What runs in parallel there waits for deadlines.
.PHONY: e2e
e2e: tools
	go test -race -count=1 -parallel 8 -timeout 20m ./tokend/e2e/...

.PHONY: fuzz
fuzz:
	packaging/fuzz $(FUZZTIME)

.PHONY: lint
lint: bin/golangci-lint-$(GOLANGCI)
	go vet ./...
	GOARCH=arm64 go vet ./pamhelper/...
	bin/golangci-lint-$(GOLANGCI) run

bin/golangci-lint-$(GOLANGCI):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv bin/golangci-lint $@

.PHONY: bench
bench: tools
	go run ./tokend/e2e/bench

# The same look-ups among ten million tokens: ten minutes, and 10 GB in /tmp.
.PHONY: bench-10m
bench-10m: tools
	go run ./tokend/e2e/bench -tokens 10000000 -only size

.PHONY: clean
clean:
	rm -rf bin
