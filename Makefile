# `make` says what there is. Every step of continuous integration (.ci/run) is
# a target here.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN      := bin/iserd
FUZZTIME ?= 5s
# Packages whose tests drive other people's programs; the rest are unit tests.
FOREIGN  := /test/(lab|vmlab|interop|conformance|differential|web)(/|$$)
UNIT     := unit=$$(go list ./... | grep -vE '$(FOREIGN)')
# The version is stamped from git where git can tell it.
VCS      := $(shell git status --porcelain >/dev/null 2>&1 && echo true || echo false)

.PHONY: help
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/iserd
	go build -trimpath -buildvcs=$(VCS) -o $(BIN) ./cmd/iserd

.PHONY: run
run: build ## build, and serve a 1 GiB memory disk on 127.0.0.1:3260, the web page on :9260
	./$(BIN) serve --demo --http 127.0.0.1:9260

.PHONY: docs
docs: build ## bin/share: manual pages, and completions for bash, zsh and fish
	./$(BIN) man --dir bin/share

.PHONY: setup
setup: ## install what the tests need (Debian packages, Go modules)
	@scripts/setup

.PHONY: test
test: ## everything that CI runs; on a fresh Debian 12 it installs what it needs
	@for step in setup build lint-cached race test-unit fuzz lab interop conformance web vm; do \
		scripts/step $$step $(MAKE) --no-print-directory $$step; \
	done

.PHONY: test-unit
test-unit: ## unit tests, without the race detector (allocation tests count)
	$(UNIT); go test -timeout 10m $$unit

.PHONY: race
race: ## unit tests with the race detector
	$(UNIT); go test -race -timeout 20m $$unit

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (5s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## gofmt, go vet and golangci-lint, which is built the first time
	@scripts/lint

.PHONY: lint-cached
lint-cached:
	@scripts/lint --if-cached

.PHONY: lab
lab: ## build the lab's guest once and try it (root)
	ISERD_INTEROP=1 go test -count=1 -v -timeout 15m ./test/lab

.PHONY: interop
interop: build ## libiscsi's tools, QEMU and the kernel's initiator against bin/iserd (root)
	ISERD_INTEROP=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -v -timeout 45m ./test/interop

.PHONY: conformance
conformance: build ## libiscsi's conformance suite, and the comparison with LIO and tgt (root)
	ISERD_INTEROP=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -v -timeout 30m ./test/conformance ./test/differential

.PHONY: web
web: build ## the web page in Debian's Chromium against bin/iserd
	ISERD_INTEROP=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -v -timeout 15m ./test/web

.PHONY: screens
screens: build ## pictures of every terminal screen and every page: bin/screens/*.png
	mkdir -p bin/screens
	ISERD_INTEROP=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 15m -run 'Screens$$|TestWithoutJavaScript' ./test/web -args -screens $(CURDIR)/bin/screens

.PHONY: vm
vm: build ## RDMA: Debian kernels with soft-RoCE in QEMU against bin/iserd (root)
	ISERD_VM=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -v -timeout 60m ./test/vmlab

.PHONY: bench-iser
bench-iser: build ## iserd, tgt and LIO over iSER and TCP in the same VM, by turns (root)
	ISERD_VM=1 ISERD_VM_BENCH=1 ISERD_BIN=$(CURDIR)/$(BIN) go test -count=1 -v -timeout 60m -run Bench ./test/vmlab

.PHONY: bench
bench: build ## compare with Debian's tgt, and iSER with TCP, on this machine
	go run ./internal/bench/compare --autogroup -20 --poll 200us --check

.PHONY: profile
profile: build ## measure again where the time goes, for the compiler: cmd/iserd/default.pgo
	scripts/profile

.PHONY: clean
clean: ## remove bin/; caches stay in ~/.cache/iserd-lab
	rm -rf bin
