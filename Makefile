# make help explains every target.
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN := bin/riposte
DATA ?= data
LDFLAGS := -s -w -X main.version=$(VERSION)
# Where images are tagged, as HOST/PATH/riposte; and the time that they bear, so that two builds of a commit are equal.
IMAGE ?= riposte
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# Programs that `go install` put somewhere are found too.
export PATH := $(PATH):$(shell $(GO) env GOPATH)/bin

.PHONY: help build run test e2e e2e-cluster bench lint fmt fuzz generate store-fixture image chart sbom clean

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/riposte: static, and the same wherever the same version is built with the same Go
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -tags timetzdata -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/riposte

run: build ## start a server with this repository's rules and examples on ./data, and say what to try
	@examples/hello/make-repository.sh data/hello-repository # where push.json says that it is
	$(BIN) serve --dev --rules rules --rules examples --data $(DATA)

test: ## unit and integration tests under the race detector
	$(GO) test -race -timeout 10m ./...

e2e: build ## tests against real outside programs; those that are missing are skipped and named
	$(GO) test -tags e2e -count=1 -timeout 20m -v -run "^TestE2E" ./cmd/riposte/

e2e-cluster: build ## the same on the disposable Kubernetes cluster of KUBECONFIG, as kind makes one
	@# one package at a time: some drain nodes
	$(GO) test -p 1 -tags e2e -count=1 -timeout 20m -v -run "^TestCluster" $$(grep -rl '^func TestCluster' --include='*_test.go' . | xargs -n1 dirname | sort -u)

bench: build ## measure; BENCH=regexp chooses figures, BENCH_JSON=FILE writes them as JSON lines
	$(GO) run ./cmd/bench -binary $(BIN) -run '$(BENCH)' -json '$(BENCH_JSON)'

lint: ## golangci-lint v2, installed if missing
	@command -v golangci-lint >/dev/null || $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	golangci-lint run ./...

fmt: ## format the code
	gofmt -w charts cmd pkg

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for p in $$($(GO) list ./pkg/...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzzminimizetime=5x -fuzztime $${FUZZTIME:-10s} $$p || exit 1; done; done

generate: build ## write the generated pages below docs/reference, and the generated parts of the chart
	$(BIN) schema --docs docs/reference
	$(BIN) schema --rights charts/riposte/files/rights.yaml
	$(GO) run ./cmd/chartdoc charts/riposte

image: ## build the images IMAGE and IMAGE-tools with docker buildx; PLATFORM=linux/arm64 for another machine
	for target in riposte riposte-tools; do \
		SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) docker buildx build --target $$target --build-arg VERSION=$(VERSION) $(if $(PLATFORM),--platform $(PLATFORM)) \
			--output type=docker,rewrite-timestamp=true --tag $(IMAGE)$${target#riposte}:$(VERSION) . || exit 1; done

chart: ## package charts/riposte as bin/riposte-VERSION.tgz, for this version's image
	helm package charts/riposte --app-version $(VERSION) $(if $(filter v%,$(VERSION)),--version $(VERSION:v%=%)) --destination bin

sbom: build ## write what bin/riposte is made of as bin/riposte.cdx.json (CycloneDX)
	$(GO) run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 bin -json -noserial -version $(VERSION) -output $(BIN).cdx.json $(BIN)

FORMAT = $(shell sed -n 's/^const Format = //p' pkg/broker/format.go)
store-fixture: build ## make the store of this format that tests open from then on, for a new format
	mkdir -p pkg/app/testdata/stores/$(FORMAT)
	STORE_FIXTURE=$(CURDIR)/pkg/app/testdata/stores/$(FORMAT)/store.tar.gz $(GO) test -tags e2e -count=1 -run '^TestE2EStoreFixture$$' -v ./cmd/riposte/

clean: ## remove what was built; the data directory stays
	rm -rf bin
