# The tests need Go releases, compilers and gdb: testprogs/setup.sh gets them.
SETUP := testprogs/setup.sh

.PHONY: help test product demo layouts bench bench-parts bench-core

help:
	@echo "make test   get what the tests need (Go releases, Debian packages), run all tests"
	@echo "make product  all tests on all releases and kinds of builds: hours on a cold cache"
	@echo "make demo   build allgs, start a small stuck Go service, look into it"
	@echo "make bench  race allgs against a plain bulk copy of the same memory, debuggers, the runtime itself"
	@echo "make bench-parts  how long decoding, unwinding and naming take"
	@echo "make layouts  measure the layout tables of all Go releases anew"
	@echo ".ci/run     what CI runs: format, lints, documentation, make test"

test:
	$(SETUP) go
	$(SETUP) debian
	$(SETUP) toolchains
	$(SETUP) run cargo test --locked --no-fail-fast

product:
	$(SETUP) go
	$(SETUP) debian
	$(SETUP) toolchains
	ALLGS_PRODUCT=all $(SETUP) run cargo test --locked --no-fail-fast -- --nocapture

demo:
	$(SETUP) go
	cargo build --locked --release
	$(SETUP) run testprogs/demo.sh target/release/allgs

layouts:
	$(SETUP) go
	$(SETUP) run cargo run --locked --example layouts

bench:
	$(SETUP) go
	cargo build --locked --release --bins --examples
	mkdir -p benches/runs
	$(SETUP) delve
	$(SETUP) run target/release/examples/race benches/runs/$(shell date +%F).tsv

# Decoding, unwinding, naming.
bench-parts:
	$(SETUP) go
	$(SETUP) run cargo bench --locked --bench parts

bench-core:
	$(SETUP) go
	$(SETUP) debian
	cargo build --locked --release --bins
	$(SETUP) run benches/core.sh target/release/allgs
