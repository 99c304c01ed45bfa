/* run.h: the pieces that a run and a sweep are made of; private to tests/sim.
 * Threads: one. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include "tests/sim/sim.h"

/* plan NULL: the seed's own. */
void sim_open(struct sim *sim, uint64_t seed, bool verbose, const struct sim_plan *plan);
void sim_shut(struct sim *sim);
void sim_report_finish(struct sim *sim);

/* Started and audited, if need be after some attempts that faults end. False: a violation. */
bool sim_broker_up(struct sim *sim, bool faulty);
/* healthy: no fault since the start, so that flush.ms holds, and a stop must be clean. */
void sim_end_by_crash(struct sim *sim, bool healthy);
void sim_end_by_stop(struct sim *sim, bool healthy);
/* The second data directory has failed, and is away until it is mended. */
bool sim_dir_failing(const struct sim *sim);

bool sim_crashed(const struct sim *sim);
uint64_t sim_faults_hit(const struct sim *sim);
void sim_faults_disarm(struct sim *sim);

#endif
