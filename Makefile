# penstock: see README.md. Targets: all run test test-all bench-kafka bench-compare bench-drivers asan
#   fuzz layers format lint clean.
#   V=1 shows the commands; CC=clang builds with clang (into build/clang); SANITIZE=1 is `make asan`.
MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

ifeq ($(origin CC),default)
CC := gcc
endif
FLAVOR := $(if $(SANITIZE),asan,$(if $(findstring clang,$(CC)),clang,release))
BUILD := build$(if $(filter-out release,$(FLAVOR)),/$(FLAVOR))
Q := $(if $(V),,@)

CFLAGS := -std=gnu17 -O2 -g -fno-omit-frame-pointer -D_GNU_SOURCE -I. -pthread -MMD -MP \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
	-Wno-missing-field-initializers -Werror
LDFLAGS := -pthread
ifdef SANITIZE
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif

# Modules, and which each may include: `make layers` holds every #include against this table.
MODULES := core/base core/batch core/meta core/log core/shard io numa net/wire net bench/stat bench/load bench tools
DEPS_core/base :=
DEPS_io        := core/base
DEPS_numa      := core/base
DEPS_core/batch := core/base
DEPS_core/meta := core/base io
DEPS_core/log  := core/base core/batch core/meta io
DEPS_core/shard := core/base core/batch core/log core/meta io numa
DEPS_net/wire  := core/base
DEPS_net       := core/base core/batch core/log core/meta core/shard io net/wire
# bench drives brokers over the wire only: nothing of core/log, core/shard or net/api.
DEPS_bench/stat := core/base
DEPS_bench/load := core/base core/batch io net/wire bench/stat
DEPS_bench     := core/base core/batch io net/wire bench/stat bench/load
DEPS_tools     := core/base core/batch core/log core/meta core/shard io numa net/wire net bench

LIBS_core/base  := -lisal -lm
LIBS_core/batch := -lz -llz4 -lzstd -lsnappy
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
link_order = $(foreach m,tools bench bench/load bench/stat net net/wire core/shard core/log core/meta core/batch io numa core/base,$(if $(filter $(m),$(1)),$(call archive,$(m))))

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

# Replays of the fuzz corpora, sanitized; `make fuzz` really fuzzes (clang, FUZZ_SECONDS each).
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 60
FUZZ_SOURCES := $(foreach m,core/base core/batch core/log core/meta net/wire bench/stat,$(call module_sources,$(m))) \
	io/env.c bench/agents_wire.c $(foreach f,stats verify workload,bench/load/$(f).c)
FUZZ_LIBS := $(foreach m,core/base core/batch bench/stat,$(LIBS_$(m)))
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# Objects of their own, for the replays are sanitized in a release build as well.
fuzz_objects = $(patsubst %.c,$(BUILD)/fuzz-obj/%.o,$(1))
$(BUILD)/fuzz-obj/%.o: %.c $(BUILD)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SANITIZERS) -c -o $@ $<
$(BUILD)/tests/fuzz-%: $(BUILD)/fuzz-obj/tests/fuzz/fuzz_%.o $(call fuzz_objects,tests/fuzz/replay.c $(FUZZ_SOURCES))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(SANITIZERS) -o $@ $^ $(FUZZ_LIBS)
.SECONDARY: $(call fuzz_objects,$(patsubst %,tests/fuzz/fuzz_%.c,$(FUZZERS)))
build/fuzz/%: tests/fuzz/fuzz_%.c $(FUZZ_SOURCES)
	@mkdir -p $(@D)
	$(Q)clang $(filter-out -MMD -MP -Werror,$(CFLAGS)) -fsanitize=fuzzer,address,undefined -o $@ $^ $(FUZZ_LIBS)
fuzz: deps $(addprefix build/fuzz/,$(FUZZERS))
	$(Q)for f in $(FUZZERS); do mkdir -p build/fuzz/corpus-$$f && \
		build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) build/fuzz/corpus-$$f tests/fuzz/corpus/$$f || exit 1; done

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

TEST_PROGRAMS := $(UNIT_PROGRAMS) $(addprefix $(BUILD)/tests/,wire-echo hist-write scripted-broker) $(addprefix $(BUILD)/tests/fuzz-,$(FUZZERS))
test-programs: $(TEST_PROGRAMS)
asan-test-programs:
	$(Q)$(MAKE) SANITIZE=1 all build/asan/tests/wire-echo units

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
	$(Q)$(MAKE) layers all test-programs
	$(Q)$(MAKE) asan-test-programs
	$(Q)$(MAKE) CC=clang all
	$(Q)tests/run.py --build $(BUILD) --all $(ARGS)

# Apache Kafka 4 for comparison: in the foreground, or side by side with penstock under one load.
bench-kafka:
	$(Q)bench/kafka.sh $(ARGS)
bench-compare: deps
	$(Q)$(MAKE) all
	$(Q)bench/compare.sh $(ARGS)
# What our load client costs beside librdkafka.
bench-drivers: deps
	$(Q)$(MAKE) all
	$(Q)bench/drivers.sh $(ARGS)

# Holds every #include against the table of arrows above, and the fenced headers to their folders.
layers:
	$(Q)tools/layers.sh $(foreach m,$(MODULES),'$(m):$(DEPS_$(m))')

ALL_C := $(shell git ls-files '*.c' '*.h' 2>/dev/null)
format:
	$(Q)clang-format -i $(ALL_C)
lint:
	$(Q)clang-format --dry-run -Werror $(ALL_C)
	$(Q)clang-tidy --quiet $(filter %.c,$(filter-out tests/%,$(ALL_C))) -- $(filter-out -MMD -MP,$(CFLAGS))

.PHONY: all FORCE units clean asan deps run test test-all test-programs asan-test-programs layers format lint fuzz \
	bench-kafka bench-compare bench-drivers
asan:
	$(Q)$(MAKE) SANITIZE=1 all

clean:
	rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz-obj -name '*.d' 2>/dev/null)
