/* sweep.h: one fixed scenario, again and again, with one thing going wrong at its 1st, 2nd, ... nth
 * operation, until a run ends before the fault would have come.
 * Threads: one. */
#ifndef TESTS_SIM_SWEEP_H
#define TESTS_SIM_SWEEP_H

#include "tests/sim/sim.h"

/* The kinds of enum mem_fault, and then the cuts. */
enum { SWEEP_POWER_CUT = MEM_FAULT_KINDS, SWEEP_KINDS };
extern const char *const sweep_names[SWEEP_KINDS];

/* Every step-th operation from the first on. Adds to sum; ret_points: how many were tried. False: a
 * violation, told on stderr with the point. */
bool sim_sweep(struct sim *sim, unsigned kind, unsigned first, unsigned step,
               struct sim_report *sum, uint64_t *ret_points);

#endif
