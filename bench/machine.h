/* machine.h: what machine a result was measured on.
 *
 * Happy path: machine_describe() once a run, machine_json() into the result file.
 * Failure: none: what the system does not tell stays empty or zero, and is then absent from the
 *   JSON. machine_json() returns NULL when memory is out.
 * Ownership: the JSON object is the caller's (json_object_put).
 * Threads: any. Reads /proc and /sys. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;

struct machine {
    char hostname[256];
    char architecture[65];   /* of the kernel: "x86_64" */
    char kernel_release[65]; /* "6.1.0-28-amd64" */
    char cpu_model[128];     /* "model name" of the first in /proc/cpuinfo; ARM has none */
    char clocksource[32];    /* what CLOCK_MONOTONIC is read from: "tsc", "kvm-clock" */
    char boot_id[40];        /* the same in two results: no reboot between them */
    unsigned cpus_online;    /* 0: not known */
    uint64_t memory_bytes;   /* of the machine; 0: not known */
    bool hypervisor_known;   /* the CPU flags are readable and of a kind that would tell */
    bool hypervisor;         /* a virtual machine: figures are shared with neighbours */
};

void machine_describe(struct machine *ret);
/* {"hostname", "architecture", "kernel", "cpu_model", "cpus_online", "memory_bytes", "clocksource",
 * "hypervisor", "boot_id"}, each only if known. */
struct json_object *machine_json(const struct machine *machine);

#endif
