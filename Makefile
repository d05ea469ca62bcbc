# Shunt. As root on Debian 12 with Go, git and make:
#
#   make demo    the whole thing at work on this machine; installs nothing
#   make test    every check and every test; installs what is missing
#
# Others: build, package, compose-test, lint, generate, bench, fuzz, setup, clean.

GO       ?= go
TOOL      = $(GO) tool -modfile=tools/go.mod
PACKAGES ?= ./...
BENCH    ?= .
FUZZTIME ?= 20s
TIMEOUT  ?= 30m

.PHONY: build preload package demo test compose-test setup lint check-generated generate bench fuzz clean

build:
	CGO_ENABLED=0 $(GO) build -o bin/shunt ./cmd/shunt

demo: build
	bin/shunt lab demo

# CI=1: a test that lacks something fails; it is not skipped. The tests of whole
# clusters have the machine for themselves. -count=1: what a test builds or runs is
# not all known to the cache of results.
test: setup lint check-generated build
	CI=1 $(GO) test -race -count=1 -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v -e /lab/e2e -e /packaging -e /deploy/compose)
	CI=1 $(GO) test -race -count=1 -timeout $(TIMEOUT) ./lab/e2e
	CI=1 $(GO) test -count=1 -timeout $(TIMEOUT) ./packaging/...
	$(MAKE) compose-test

# The lab of containers, with an engine of its own where none runs.
compose-test:
	./deploy/compose/setup.sh
	$(GO) vet -tags compose ./deploy/compose
	CI=1 $(GO) test -tags compose -v -count=1 -timeout $(TIMEOUT) ./deploy/compose/...

# The Debian package and the container image.
package: preload
	$(GO) run ./packaging/mkpackages

setup:
	./scripts/setup.sh

lint:
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)
	$(TOOL) buf lint proto

check-generated:
	./scripts/check-generated.sh

generate:
	$(GO) generate ./...

# The library that gives unmodified servers their sessions; needs cc.
preload:
	$(MAKE) -C preload

# Needs Open vSwitch, HAProxy, mini_httpd and cc: see setup.
bench: build preload
	$(GO) run ./bench -shunt bin/shunt
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./agent/... ./controller/...

fuzz:
	./scripts/fuzz.sh $(FUZZTIME)

clean:
	rm -rf bin
