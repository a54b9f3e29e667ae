# make help explains every target.
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN := bin/riposte
DATA ?= data
LDFLAGS := -s -w -X main.version=$(VERSION)
# Programs that `go install` put somewhere are found too.
export PATH := $(PATH):$(shell $(GO) env GOPATH)/bin

.PHONY: help build run test e2e e2e-cluster bench lint fmt fuzz generate clean

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/riposte, a static program
	CGO_ENABLED=0 $(GO) build -trimpath -tags timetzdata -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/riposte

run: build ## start a server with this repository's rules and examples on ./data, and say what to try
	@examples/hello/make-repository.sh data/hello-repository # where push.json says that it is
	$(BIN) serve --dev --rules rules --rules examples --data $(DATA)

test: ## unit and integration tests under the race detector
	$(GO) test -race -timeout 10m ./...

e2e: build ## tests against real outside programs; those that are missing are skipped and named
	$(GO) test -tags e2e -count=1 -timeout 20m -v -run "^TestE2E" ./cmd/riposte/

e2e-cluster: ## tests on the disposable Kubernetes cluster that KUBECONFIG names, such as one of kind
	$(GO) test -tags e2e -count=1 -timeout 20m -v -run "^TestCluster" ./pkg/action/kubernetes/ ./pkg/action/helm/

bench: build ## measure; BENCH=regexp chooses figures, BENCH_JSON=FILE writes them as JSON lines
	$(GO) run ./cmd/bench -binary $(BIN) -run '$(BENCH)' -json '$(BENCH_JSON)'

lint: ## golangci-lint v2, installed if missing
	@command -v golangci-lint >/dev/null || $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	golangci-lint run ./...

fmt: ## format the code
	gofmt -w cmd pkg

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for p in $$($(GO) list ./pkg/...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzzminimizetime=5x -fuzztime $${FUZZTIME:-10s} $$p || exit 1; done; done

generate: build ## write the generated pages below docs/reference, and the rights that the chart reads
	$(BIN) schema --docs docs/reference
	$(BIN) schema --rights charts/riposte/files/rights.yaml

clean: ## remove what was built; the data directory stays
	rm -rf bin
