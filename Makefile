# make demo and make test are all that a newcomer needs; make check is what CI runs.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The race detector needs a C compiler; without one the tests run all the same.
# SQLite's translation to Go is not watched: it is not ours, and would take most of the time.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race -gcflags=modernc.org/sqlite/...=-race=false -gcflags=modernc.org/libc/...=-race=false)
# Many tests wait for a process, a vendor or a clock, so there are more at a time than processors. Under
# the race detector a collection of garbage costs twice, and there is memory enough to do with fewer.
PARALLEL := -parallel $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN)) -exec 'env GOGC=400'
CHAOS_SEED ?= $(shell date +%s)
CHAOS_OPERATIONS ?= 10000
SOAK_SESSIONS ?= 200
SOAK_TIME ?= 60s
LINT_VERSION := v2.15.0
LINT := .cache/golangci-lint-$(LINT_VERSION)/golangci-lint

.PHONY: build build-otel demo test deployment conformance chaos soak bench lint fmt generate tidy vet check clean

build: ## the binary, bin/tokenreeve
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tokenreeve .

build-otel: ## the binary with the OTLP exporters, bin/tokenreeve-otel (docs/telemetry.md)
	go build -trimpath -tags otel -ldflags '$(LDFLAGS)' -o bin/tokenreeve-otel .

demo: build ## the whole job against simulated vendors
	./bin/tokenreeve demo

# The package that takes the longest goes first.
test: ## all tests, with the race detector
	go test $(RACE) $(PARALLEL) -shuffle=on -timeout 30m ./tools ./...
	go test -trimpath -tags otel ./internal/telemetry
	@test -n "$$TOKENREEVE_TEST_POSTGRES" || echo 'The tests that need PostgreSQL were skipped: `.ci/postgres make test` runs them too.'

deployment: ## the image, compose, Kubernetes and proxy files, judged by the code that reads them
	cd deploy/check && go mod tidy -diff && go vet ./... && go test -shuffle=on ./...

conformance: build conformance/node_modules/.package-lock.json ## the official suite, SDK clients and inspector; needs Node.js
	node conformance/run.mjs

conformance/node_modules/.package-lock.json: conformance/package-lock.json
	npm ci --prefix conformance --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

chaos: ## thousands of random operations while everything fails; CHAOS_SEED=n makes the same ones
	mkdir -p .cache/chaos
	CHAOS_SEED=$(CHAOS_SEED) CHAOS_OPERATIONS=$(CHAOS_OPERATIONS) \
		go test $(RACE) -count=1 -v -timeout 60m -artifacts -outputdir '$(abspath .cache/chaos)' -run TestChaos ./internal/chaos

soak: ## many sessions for a minute, with clients and vendors that misbehave; SOAK_SESSIONS=n, SOAK_TIME=60s
	SOAK_SESSIONS=$(SOAK_SESSIONS) SOAK_TIME=$(SOAK_TIME) \
		go test $(RACE) -count=1 -v -timeout 30m -run TestSoakInProcess ./internal/soak
	SOAK_SESSIONS=$(SOAK_SESSIONS) SOAK_TIME=$(SOAK_TIME) SOAK_REST=35s \
		go test -count=1 -v -timeout 30m -run TestSoakBinary ./internal/soak

bench: ## how fast and how small, each as a ratio against a bare server
	go run ./internal/bench

generate: ## schemas, golden files and generated parts of documents
	go generate ./...

fmt: $(LINT) ## format the code
	$(LINT) fmt

lint: $(LINT) ## import rules and everything else that a tool can judge
	$(LINT) run
	$(LINT) run --build-tags otel ./internal/telemetry/...
	cd deploy/check && '$(abspath $(LINT))' run

vet:
	go vet ./...
	go vet -tags otel ./internal/telemetry/...

tidy: ## fails where go.mod or go.sum would change
	go mod tidy -diff

check: ## everything that CI checks
	./.ci/run

clean:
	rm -rf bin .cache conformance/node_modules

$(LINT):
	GOBIN='$(abspath $(dir $(LINT)))' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
