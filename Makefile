# `make help` lists the targets.

CLUSTER := tests/cluster/cluster

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## A local cluster, the operator, a CachedService, load, caches, a database; CONTEXT=… REGISTRY=… for a cluster of yours
	@examples/walkthrough $(if $(CONTEXT),--context '$(CONTEXT)') $(if $(REGISTRY),--registry '$(REGISTRY)') \
		$(if $(TAG),--tag '$(TAG)') $(if $(PLAIN_HTTP),--plain-http)

.PHONY: test
test: ## Every check and test; the last line counts them
	@tests/run

.PHONY: check
check: ## The quick part of the tests: format, lints, docs, unit tests
	@tests/run format clippy docs drift shell unit

.PHONY: generate
generate: ## Write the generated files: the CRDs, their copies in the chart, the API reference
	@mkdir -p crds
	cargo build -q
	for kind in cachedservices cachepurges; do \
		target/debug/cachedservice-operator crd $$kind > crds/$$kind.cachedservice.dev.yaml || exit 1; \
	done
	cp crds/*.cachedservice.dev.yaml charts/cachedservice-operator/files/
	tests/chart/values-table --write
	UPDATE_REFERENCE=1 cargo test -q --test docs the_api_reference

.PHONY: golden
golden: ## Write the expected output of the golden cases anew; read the difference
	UPDATE_GOLDEN=1 cargo test -q --test golden
	git diff --stat tests/cases

.PHONY: images
images: ## Build the container images into target/images; with REGISTRY=HOST/PATH push them, too
	@images/build
	@$(if $(REGISTRY),images/push $(if $(TAG),--tag '$(TAG)') $(if $(PLAIN_HTTP),--plain-http) '$(REGISTRY)')

.PHONY: plugin
plugin: ## Build the plugin for kubectl: target/release/kubectl-cachedservice
	@cargo build --release --locked --no-default-features --features kubectl --bin kubectl-cachedservice

.PHONY: up
up: ## Start the local cluster
	@$(CLUSTER) up

.PHONY: down
down: ## Take all local clusters away
	@$(CLUSTER) down --all

.PHONY: bench
bench: ## Speed and footprint: creation, edits, rest, memory, restart, up to 10,000 (about an hour)
	@tests/bench/run

.PHONY: bench-http
bench-http: ## The sidecar's HTTP cache beside nginx and Varnish (about 10 minutes)
	@tests/bench/http/run

.PHONY: bench-redis
bench-redis: ## The sidecar's near-cache beside Redis itself and nutcracker (about 10 minutes)
	@tests/bench/redis/run

.PHONY: bench-caches
bench-caches: ## quick_cache beside moka as a sidecar's memory (about a minute)
	@cargo run -q --profile image --example caches --no-default-features --features sidecar

.PHONY: test-demo
test-demo: ## The demo on a cluster as one of the user's, with a registry that it pulls from (about 7 minutes)
	@tests/demo/real

.PHONY: faults
faults: ## The operator killed at random times through 500 reconciles (about 2 minutes)
	@FAULTS_RECONCILES=500 cargo test --test faults -- --test-threads=2 --nocapture killed_at_random_times

.PHONY: soak
soak: ## Start and stop local clusters again and again, with killed parts (about 10 minutes)
	@cd tests/cluster && go test -tags soak -count 1 -timeout 40m -v .

.PHONY: crowd
crowd: ## 10,000 connections at the sidecar, and a client that never reads (about 3 minutes)
	@cargo test --no-default-features --features sidecar --test sidecar -- --ignored --nocapture

.PHONY: soak-near
soak-near: ## Whether four near-caches stay coherent under faults: SECONDS=… at most 3,600, 600 if not given
	@SOAK_SECONDS='$(SECONDS)' cargo test --no-default-features --features sidecar --test coherence -- \
		--ignored --nocapture

.PHONY: fuzz
fuzz: ## Look for inputs that nobody thought of, by coverage: MINUTES=… for each of 16 targets, 2 if not given
	@tests/fuzz/run $(MINUTES)

.PHONY: test-matrix
test-matrix: ## The tests of the API on the oldest and the newest Kubernetes that the chart claims
	@tests/matrix

.PHONY: advisories
advisories: ## Known vulnerabilities of the dependencies (needs the internet)
	@tests/deny check advisories
