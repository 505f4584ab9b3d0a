# The tests need Go releases, compilers and gdb: testprogs/setup.sh gets them.
SETUP := testprogs/setup.sh

.PHONY: help test fuzz fuzz-brief deny product demo layouts bench bench-parts bench-core bench-why arm64-kernel

help:
	@echo "make test   get what the tests need (Go releases, Debian packages), run all tests"
	@echo "make fuzz   fuzz each target for FUZZ_SECONDS (1800), two at a time"
	@echo "make fuzz-brief  fuzz each target for a minute without a sanitizer, as CI does"
	@echo "make deny   check licences and sources of what allgs is made of"
	@echo "make product  all tests on all releases and kinds of builds: hours on a cold cache"
	@echo "make demo   build allgs, start a small stuck Go service, look into it"
	@echo "make bench  race allgs against a plain bulk copy of the same memory, debuggers, the runtime itself"
	@echo "make bench-parts  how long decoding, unwinding and naming take"
	@echo "make bench-why  what why costs over list, with 100,000 goroutines behind one lock"
	@echo "make arm64-kernel  compare cores that a real arm64 kernel writes in an emulated machine"
	@echo "make layouts  measure the layout tables of all Go releases anew"
	@echo ".ci/run     what CI runs: format, lints, documentation, make test"

test:
	$(SETUP) go
	$(SETUP) debian
	$(SETUP) toolchains
	$(SETUP) delve
	$(SETUP) programs
	$(SETUP) run cargo test --locked --no-fail-fast

FUZZ_SECONDS ?= 1800

fuzz:
	$(SETUP) go
	$(SETUP) debian
	fuzz/run.sh build
	fuzz/run.sh seeds
	fuzz/run.sh run $(FUZZ_SECONDS)

# The same inputs each time: a change that is not to blame must not fail.
fuzz-brief: export ALLGS_FUZZ_SANITIZER = none
fuzz-brief: export ALLGS_FUZZ_SEED = 1
fuzz-brief:
	$(SETUP) go
	$(SETUP) debian
	fuzz/run.sh build
	fuzz/run.sh seeds
	fuzz/run.sh run 60

deny:
	$(SETUP) deny
	$(SETUP) run cargo deny --locked check bans licenses sources

product:
	$(SETUP) go
	$(SETUP) debian
	$(SETUP) toolchains
	$(SETUP) delve
	$(SETUP) programs
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

arm64-kernel:
	$(SETUP) go
	$(SETUP) debian
	$(SETUP) arm64-kernel
	$(SETUP) run testprogs/arm64-kernel.sh $(CURDIR)/.cache/arm64-cores
	ALLGS_ARM64_KERNEL=$(CURDIR)/.cache/arm64-cores $(SETUP) run cargo test --locked --test arm64 kernel -- --show-output

bench-why:
	$(SETUP) go
	cargo build --locked --release --bins
	$(SETUP) run benches/why.sh target/release/allgs
