# penstock: see README.md. Targets: all run test test-all sim sim-soak sim-mutants crash vm-crash vm-test
#   fuzz bench-kafka bench-compare bench-table bench-curve bench-drivers bench-egress bench-scale asan layers format lint clean.
#   V=1 shows the commands; CC=clang builds with clang (into build/clang); SANITIZE=1 is `make asan`;
#   FUZZER=1 is what `make fuzz` builds with (clang, into build/fuzz).
MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

ifeq ($(origin CC),default)
CC := $(if $(FUZZER),clang,gcc)
endif
FLAVOR := $(if $(FUZZER),fuzz,$(if $(SANITIZE),asan,$(if $(findstring clang,$(CC)),clang,release)))
BUILD := build$(if $(filter-out release,$(FLAVOR)),/$(FLAVOR))
Q := $(if $(V),,@)

CFLAGS := -std=gnu17 -O2 -g -fno-omit-frame-pointer -D_GNU_SOURCE -I. -pthread -MMD -MP \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
	-Wno-missing-field-initializers -Werror
LDFLAGS := -pthread
ifneq ($(SANITIZE)$(FUZZER),)
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif
ifdef FUZZER
CFLAGS += -fsanitize=fuzzer-no-link
endif

# Modules, and which each may include: `make layers` holds every #include against this table.
MODULES := core/base core/batch core/meta core/log core/shard core/group io numa net/wire net bench/stat bench/load bench tools
DEPS_core/base :=
DEPS_io        := core/base
DEPS_numa      := core/base
DEPS_core/batch := core/base
DEPS_core/meta := core/base io
DEPS_core/log  := core/base core/batch core/meta io
DEPS_core/shard := core/base core/batch core/log core/meta io numa
DEPS_core/group := core/base core/batch core/log core/meta core/shard io
DEPS_net/wire  := core/base
DEPS_net       := core/base core/batch core/group core/log core/meta core/shard io net/wire
# bench drives brokers over the wire only: nothing of core/log, core/shard or net/api.
DEPS_bench/stat := core/base
DEPS_bench/load := core/base core/batch io net/wire bench/stat
DEPS_bench     := core/base core/batch io net/wire bench/stat bench/load
DEPS_tools     := core/base core/batch core/group core/log core/meta core/shard io numa net/wire net bench

LIBS_core/base  := -lisal -lm
LIBS_core/batch := -lz -llz4 -lzstd -lsnappy
LIBS_net        := -lmicrohttpd
LIBS_io         := -luring
LIBS_numa       := -lhwloc -lnuma -ljson-c
LIBS_bench/stat := -lz -lm
LIBS_bench/load := -lrdkafka -lm
LIBS_bench      := -ljson-c
LIBS_ALL := $(foreach m,$(MODULES),$(LIBS_$(m)))

# net/api belongs to module net; every other module is one folder.
module_sources = $(wildcard $(1)/*.c) $(if $(filter net,$(1)),$(wildcard net/api/*.c))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
archive = $(BUILD)/lib/$(subst /,-,$(1)).a
# A module's archives in link order: itself, then all below it.
link_order = $(foreach m,tools bench bench/load bench/stat net net/wire core/group core/shard core/log core/meta core/batch io numa core/base,$(if $(filter $(m),$(1)),$(call archive,$(m))))

all: $(BUILD)/penstock

define module_rules
$(call archive,$(1)): $(call objects,$(call module_sources,$(1)))
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module_rules,$(m))))

$(BUILD)/obj/%.o: %.c $(BUILD)/.flags
	@mkdir -p $(@D)
	@$(if $(V),,echo "  CC    $<")
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(BUILD)/penstock: $(call link_order,$(MODULES)) $(BUILD)/.flags
	@$(if $(V),,echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %/tools.a,$^) -Wl,--start-group $(filter-out %/tools.a,$(filter %.a,$^)) -Wl,--end-group $(LIBS_ALL) -lm

# The commit goes into one object only, made again when it has changed.
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)$(shell git diff --quiet HEAD 2>/dev/null || echo +)
$(BUILD)/obj/tools/cmd_version.o: CFLAGS += -DPENSTOCK_COMMIT='"$(or $(COMMIT:+=),unknown)$(findstring +,$(COMMIT))"'
$(BUILD)/obj/tools/cmd_version.o: $(BUILD)/.commit
$(BUILD)/.commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@

# A change of flags or compiler rebuilds.
$(BUILD)/.flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(LDFLAGS)' > $@
FORCE:

# Unit tests: one criterion program a module, of tests/unit/MODULE/*.c plus its fixture in tests/lib
# and what is named here.
SCRIPT_SOURCES := $(wildcard tests/lib/script_*.c)
UNIT_EXTRA_bench/load := $(SCRIPT_SOURCES) tests/lib/net_sim.c
TEST_DEPS_core/group := numa
UNIT_MODULES := $(foreach m,$(MODULES),$(if $(wildcard tests/unit/$(m)/*.c),$(m)))
unit_program = $(BUILD)/tests/unit-$(subst /,-,$(1))
define unit_rules
$(call unit_program,$(1)): $(call objects,$(wildcard tests/unit/$(1)/*.c) $(wildcard tests/lib/$(subst /,_,$(1))_fixture.c) $(UNIT_EXTRA_$(1))) $(call link_order,$(1) $(DEPS_$(1)) $(TEST_DEPS_$(1)))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LIBS_ALL) -lcriterion -lm
unit-$(1): $(call unit_program,$(1))
	$$(Q)$$(call unit_program,$(1)) $(ARGS)
endef
$(foreach m,$(UNIT_MODULES),$(eval $(call unit_rules,$(m))))
UNIT_PROGRAMS := $(foreach m,$(UNIT_MODULES),$(call unit_program,$(m)))
units: $(UNIT_PROGRAMS)

# Fuzz targets: with SANITIZE=1 they replay files, with FUZZER=1 they fuzz. Each takes what it needs
# from everybody's archives; tests-fuzz.a is what they share, and core/log with small journal writes:
# a journal of the real size takes longer to read than all the rest of an input.
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SHARED := $(filter-out tests/fuzz/fuzz_% tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)) tests/lib/core_log_fixture.c
fuzz_objects = $(patsubst %.c,$(BUILD)/fuzz-obj/%.o,$(1))
$(BUILD)/fuzz-obj/%.o: %.c $(BUILD)/.flags
	@mkdir -p $(@D)
	@$(if $(V),,echo "  CC    $< (fuzz)")
	$(Q)$(CC) $(CFLAGS) -DJOURNAL_WRITE_BYTES_MAX=65536u -c -o $@ $<
$(BUILD)/lib/tests-fuzz.a: $(call fuzz_objects,$(FUZZ_SHARED) $(call module_sources,core/log))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^
# What only serves the targets is not for the fuzzer to cover.
$(call fuzz_objects,$(FUZZ_SHARED)) $(call objects,io/env_mem.c core/base/map.c): CFLAGS := $(filter-out -fsanitize=fuzzer-no-link,$(CFLAGS))
$(BUILD)/tests/fuzz-%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(if $(FUZZER),,$(call objects,tests/fuzz/replay.c)) $(BUILD)/lib/tests-fuzz.a $(call link_order,$(filter-out core/log,$(MODULES)))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(if $(FUZZER),-fsanitize=fuzzer) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -Wl,--as-needed $(LIBS_ALL) -lm
.SECONDARY: $(call objects,$(patsubst %,tests/fuzz/fuzz_%.c,$(FUZZERS)))
fuzz-programs: $(addprefix $(BUILD)/tests/fuzz-,$(FUZZERS))
# Seconds for each target; TARGETS=log,meta runs only those.
TIME ?= 60
fuzz: deps
	$(Q)$(MAKE) FUZZER=1 fuzz-programs
	$(Q)tests/fuzz/run.py --time $(TIME) $(if $(TARGETS),--targets $(TARGETS))

# The codec's other half for the test against Kafka's own serializer.
$(BUILD)/tests/wire-echo: $(call objects,tests/wire/wire_echo.c) $(call link_order,net/wire core/base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_core/base)

# Writes histograms for other implementations of HdrHistogram to read.
$(BUILD)/tests/hist-write: $(call objects,tests/bench/hist_write.c) $(call link_order,bench/stat core/base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_bench/stat) $(LIBS_core/base)

# The scripted Kafka server on real sockets, which bench is tested against.
$(BUILD)/tests/scripted-broker: $(call objects,tests/bench/scripted_broker.c $(SCRIPT_SOURCES)) $(call link_order,io net/wire core/batch core/base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS_io) $(LIBS_core/batch) $(LIBS_core/base)

# The simulator: the broker's own objects on a modelled machine, without what only serves a real one.
SIM_OBJECTS := $(call objects,$(wildcard tests/sim/*.c) tools/serve_meta.c)
$(BUILD)/tests/penstock-sim: $(SIM_OBJECTS) $(call link_order,$(DEPS_tools:bench=))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_ALL) -lm
# make sim SEED=n [ARGS=--verbose]: one run; make sim-soak TIME=s: as many seeds as fit.
TIME ?= 3600
sim: deps
	$(Q)$(MAKE) $(BUILD)/tests/penstock-sim
	$(Q)$(BUILD)/tests/penstock-sim --seed $(or $(SEED),1) $(ARGS)
sim-soak: deps
	$(Q)$(MAKE) $(BUILD)/tests/penstock-sim
	$(Q)$(BUILD)/tests/penstock-sim --seed $(or $(SEED),$(shell date +%s)000) --seconds $(TIME) $(ARGS)
# Broken builds that it must catch.
sim-mutants: deps
	$(Q)$(MAKE) $(BUILD)/tests/penstock-sim
	$(Q)tests/sim/mutants.py --build $(BUILD) $(ARGS)

# The clients of the crash tests: producers and a consumer; the check of what they were told.
$(BUILD)/tests/crash-%: $(call objects,tests/crash/%.c tests/crash/record.c) $(BUILD)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -lrdkafka
CRASH_PROGRAMS := $(addprefix $(BUILD)/tests/crash-,load check)
crash-programs: $(CRASH_PROGRAMS)
.SECONDARY: $(call objects,$(wildcard tests/crash/*.c))

# Power cuts in a virtual machine (tests/vm/README.md).
VM_PROGRAMS := $(addprefix $(BUILD)/tests/vm-,mapper produce check replay)
VM_mapper := mapper_main mapper
VM_produce := produce mapper value
VM_check := check ledger value
VM_replay := replay writelog
$(VM_PROGRAMS): $(BUILD)/tests/vm-%: $(call archive,core/base) $(call objects,$(wildcard tests/vm/*.c))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(patsubst %,$(BUILD)/obj/tests/vm/%.o,$(VM_$*)) $(call archive,core/base) $(LIBS_core/base) -lrdkafka
vm-programs: $(VM_PROGRAMS)

TEST_PROGRAMS := $(UNIT_PROGRAMS) $(CRASH_PROGRAMS) $(VM_PROGRAMS) \
	$(addprefix $(BUILD)/tests/,wire-echo hist-write scripted-broker penstock-sim)
test-programs: $(TEST_PROGRAMS)
asan-test-programs:
	$(Q)$(MAKE) SANITIZE=1 all $(addprefix build/asan/tests/,wire-echo penstock-sim) units fuzz-programs

# What the build needs, installed when it is missing; the tests' own needs: tests/install.sh.
deps:
	$(Q)tools/install.sh

run: deps
	$(Q)$(MAKE) all
	$(Q)exec $(BUILD)/penstock serve $(ARGS)

test: deps
	$(Q)tests/install.sh
	$(Q)$(MAKE) layers all test-programs
	$(Q)$(MAKE) asan-test-programs
	$(Q)tests/run.py --build $(BUILD) $(ARGS)

test-all: deps
	$(Q)tests/install.sh
	$(Q)tests/install.sh --vm
	$(Q)$(MAKE) layers all test-programs
	$(Q)$(MAKE) asan-test-programs
	$(Q)$(MAKE) CC=clang all
	$(Q)tests/run.py --build $(BUILD) --all $(ARGS)

# kill -9 under load: KILLS of them (200), planned by SEED (the time).
crash: deps
	$(Q)tests/install.sh
	$(Q)$(MAKE) all crash-programs
	$(Q)CRASH_KILLS=$(KILLS) CRASH_SEED=$(SEED) python3 tests/lib/testcase.py --run \
		tests/crash/kill.py test_kill_two_hundred_times
# Power cuts on ext4 and XFS, recorded in a virtual machine; minutes. ARGS: tests/vm/run.py --help.
vm-crash: deps
	$(Q)tests/install.sh --vm
	$(Q)$(MAKE) all vm-programs
	$(Q)tests/vm/run.py --build $(BUILD) $(ARGS)
# Two NUMA nodes, NVMe that is polled, a network to the outside (tests/vm/README.md). ARGS="--fs xfs"
vm-test: deps
	$(Q)tests/install.sh --vm
	$(Q)$(MAKE) all
	$(Q)tests/vm/test.py --build $(BUILD) $(ARGS)

# Apache Kafka 4 for comparison: in the foreground, or side by side with penstock under one load.
bench-kafka:
	$(Q)bench/kafka.sh $(ARGS)
bench-compare: deps
	$(Q)$(MAKE) all
	$(Q)bench/compare.sh $(ARGS)
# The table of what both spend on each kind of work; ARGS="--rows REGEX", --quick, --list.
bench-table: deps
	$(Q)$(MAKE) all
	$(Q)bench/table.py $(ARGS)
# Latency against throughput of both, in one plot: build/bench/curve.svg.
bench-curve: deps
	$(Q)$(MAKE) all
	$(Q)bench/curve.py $(ARGS)
# What our load client costs beside librdkafka.
bench-drivers: deps
	$(Q)$(MAKE) all
	$(Q)bench/drivers.sh $(ARGS)
# 10,000 partitions and 5,000 connections beside a few of each.
bench-scale: deps
	$(Q)$(MAKE) all
	$(Q)bench/scale.py $(ARGS)

# What the broker spends on a GiB sent, by the way it leaves.
bench-egress: deps
	$(Q)$(MAKE) all
	$(Q)bench/egress.sh $(ARGS)

# Holds every #include against the table of arrows above, and the fenced headers to their folders.
layers:
	$(Q)tools/layers.sh $(foreach m,$(MODULES),'$(m):$(DEPS_$(m))')

ALL_C := $(shell git ls-files '*.c' '*.h' 2>/dev/null)
format:
	$(Q)clang-format -i $(ALL_C)
lint:
	$(Q)clang-format --dry-run -Werror $(ALL_C)
	$(Q)clang-tidy --quiet $(filter %.c,$(filter-out tests/%,$(ALL_C))) -- $(filter-out -MMD -MP,$(CFLAGS))

.PHONY: all FORCE units clean asan deps run test test-all test-programs asan-test-programs layers format lint fuzz fuzz-programs \
	sim sim-soak sim-mutants crash crash-programs vm-crash vm-test vm-programs bench-kafka bench-compare \
	bench-table bench-curve bench-drivers bench-egress bench-scale
asan:
	$(Q)$(MAKE) SANITIZE=1 all

clean:
	rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz-obj -name '*.d' 2>/dev/null)
