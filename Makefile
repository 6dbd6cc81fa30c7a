# What people and CI run; both run the same. Needs rustup and cargo. Everything
# else is installed below .tools/, which `make clean` removes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.tools/bin:$(PATH)
CARGO ?= cargo

step = @echo "==> $(1)"

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install what the tests need into .tools/ (grpcurl, through Go's module proxy)
	@tools/grpcurl.sh

.PHONY: test
test: tools ## Run every test: unit, integration, model checks, documentation, benches once
	$(call step,benches: every case once)
	$(CARGO) test --locked --bench '*' -- --test
	$(call step,unit, integration, model checks and documentation)
	$(CARGO) test --locked

# The shim is linked statically, in a build of its own: that halves what each costs.
# Users and groups that are not in /etc/passwd and /etc/group need the other one.
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE := target/dist

.PHONY: release
release: ## Build what is installed, procession and procession-shim, into target/dist/
	$(CARGO) build --locked --release --bin procession
	RUSTFLAGS="$$RUSTFLAGS -C target-feature=+crt-static -C relocation-model=static" \
		$(CARGO) build --locked --profile shim --target $(TARGET) --bin procession-shim
	install -D -t $(RELEASE) target/release/procession target/$(TARGET)/shim/procession-shim

.PHONY: chaos
chaos: export PROCESSION_KILLS ?= 1000
chaos: export STORE_STRIDE ?= 1
chaos: ## Kill, starve and cut off the daemon PROCESSION_KILLS times; needs root for disks
	$(call step,named failpoints: only a debug build has them)
	$(CARGO) test --locked --test it -- --nocapture failpoints
	$(call step,$(PROCESSION_KILLS) kills)
	$(CARGO) test --locked --release --test it -- --nocapture --test-threads=2 \
		daemon::survival faults:: shim::adoption store::

.PHONY: mutants
mutants: ## Break the program on purpose and see that tests notice; takes a quarter of an hour
	@tools/mutants.sh

.PHONY: lint
lint: ## Check formatting and lints
	$(call step,formatting)
	$(CARGO) fmt --check
	$(call step,clippy)
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: bench
bench: ## Measure (see benches/README.md); takes minutes
	$(CARGO) bench --locked

.PHONY: doc
doc: ## Build the documentation of the library; broken links are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

.PHONY: clean
clean: ## Remove all that was built or installed here
	$(CARGO) clean
	rm -rf .tools
