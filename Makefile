# meshstore: everything that is run by hand or by CI. `make` alone lists it.

# One target directory, outside the checkout: a fresh clone reuses what was built before. C and C++ go through ccache;
# both stay the same on purpose, since a change of compiler builds RocksDB anew.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/meshstore/target
export CC := ccache cc
export CXX := ccache c++

# --workspace everywhere: the same features, so that all targets share what they build.
CARGO_FLAGS := --workspace
MESHSTORE := $(CARGO_TARGET_DIR)/debug/meshstore
CARGO_DENY := $(or $(wildcard $(HOME)/.cache/meshstore/bin/cargo-deny),cargo-deny)

.DEFAULT_GOAL := help
.PHONY: help demo build test planted bench fuzz fmt lint deny doc ci first-build

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make demo DEMO_ARGS=--tour drives the tour and ends; other flags: make demo DEMO_ARGS=--help"

demo: build ## Installs what is missing, builds, runs Bookinfo at http://127.0.0.1:8080/productpage
	@$(MESHSTORE) demo $(DEMO_ARGS)

build: first-build ## Installs what is missing and builds the binary
	@scripts/setup.sh build
	cargo build $(CARGO_FLAGS) --bin meshstore

test: first-build ## Installs what is missing, builds, runs all tests, end to end ones too
	@scripts/setup.sh test
	cargo test $(CARGO_FLAGS)

planted: first-build ## Builds the rooms with the bugs that the simulation is proven by, and has it find each of them
	@scripts/setup.sh test
	cargo test $(CARGO_FLAGS) --features meshstore-sim/planted --test planted

bench: ## Runs the benchmarks
	@scripts/setup.sh test
	cargo bench $(CARGO_FLAGS)

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

fuzz: ## Runs each of FUZZ_TARGETS, all of them, for FUZZ_SECONDS, a minute (see fuzz/README.md)
	@for target in $(FUZZ_TARGETS); do \
	  echo "== $$target"; fuzz/run $$target -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 || exit; done

fmt: ## Formats all code
	cargo fmt --all

lint: ## Format and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

deny: ## Licences, bans and sources of all dependencies
	$(CARGO_DENY) --workspace check bans licenses sources

doc: ## Builds the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps $(CARGO_FLAGS)

ci: ## What CI runs
	@.ci/run

first-build:
	@if ! ls $(CARGO_TARGET_DIR)/debug/build/librocksdb-sys-*/out/librocksdb.a >/dev/null 2>&1; then \
	  echo "First build: about 20 to 30 minutes on 2 cores, most of it RocksDB's C++. Later builds take seconds."; \
	fi
