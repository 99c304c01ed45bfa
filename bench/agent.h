/* agent.h: penstock bench agent: carries load for a conductor elsewhere (penstock bench produce ...
 * --agents), one at a time, run after run, until SIGTERM or SIGINT.
 * Whoever can reach the port can make this host send load to any other: there is no
 * authentication. It is for trusted networks, and listens where it is told to only.
 * Failure: agent_serve returns -errno with a line in reason when it cannot listen. A conductor that
 *   vanishes, or says what it should not, loses the connection, and its run ends at once.
 * Threads: the caller's accepts and refuses; one converses with the conductor; and those of the
 *   load. */
#ifndef BENCH_AGENT_H
#define BENCH_AGENT_H

#include <stddef.h>

/* address: HOST:PORT, port 0 for any. Returns 0 when a signal has ended it. */
int agent_serve(const char *address, char *reason, size_t reason_size);

#endif
