/* env_mem.h: the environment (env.h) on a modelled machine: virtual time, block devices with a
 * volatile cache, names that need their directory synced, messages, and sends into a sink. The
 * fault model is written at the top of env_mem.c. Everything follows from one seed.
 *
 * Happy path: create a world, one env in it for each shard; run the code under test by env_turn();
 *   destroy the envs; mem_world_crash(); create new envs in the same world and recover.
 * Failure: faults are asked for below and reach the caller as op results. Breaking a rule of env.h
 *   (overlapping writes, a buffer changed in flight, a file closed too early) is an ASSERT.
 * Relies on: envs of one world are turned by one thread.
 * Threads: one. */
#ifndef IO_ENV_MEM_H
#define IO_ENV_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/env.h"

struct mem_world; /* devices, names, clock, random, message queues, sinks; survives crashes */

/* The same seed and the same calls give the same run. destroy: all envs must be gone; NULL-safe. */
struct mem_world *mem_world_create(uint64_t seed);
void mem_world_destroy(struct mem_world *);

/* One shard's environment. Destroying it asserts that nothing is in flight and no file is open,
 * unless the power is off: then what was in flight is forgotten, without callbacks and without
 * touching the ops.
 * A turn of one env runs the device effects of all (they share the clock) but only its own
 * callbacks. With one env, waiting for ever with nothing in flight is an ASSERT; with several
 * the turn returns, as another one may post. */
struct env *env_mem_create(struct mem_world *, unsigned index, unsigned count, void *shard);

/* Cut the power when the nth effect from now has taken place (1-based; 0: never). Effects are
 * writes, flushes and name steps that can change something; reads are none. Nothing later takes
 * effect; what was in flight or not yet called back completes with -EIO in the next turn, as does
 * all that is submitted later. */
void mem_world_crash_at_io(struct mem_world *, uint64_t nth);
void mem_world_power_off(struct mem_world *); /* now */
/* The process ends now, not the machine: what is in flight takes effect, then all is as after a
 * power cut, but the next mem_world_crash() loses nothing. */
void mem_world_kill(struct mem_world *);
bool mem_world_crashed(const struct mem_world *);
uint64_t mem_world_io_count(const struct mem_world *); /* effects since creation */

/* Decide what survived and turn the power on again. All envs must have been destroyed. Without a
 * power cut before, it is cut here. */
void mem_world_crash(struct mem_world *);

enum mem_fault {
    MEM_FAULT_READ_EIO,
    MEM_FAULT_WRITE_EIO,   /* any part of it may have been written */
    MEM_FAULT_WRITE_SHORT, /* a prefix was written; res is -EIO, as env.h promises */
    MEM_FAULT_FLUSH_EIO,   /* the device's cache is lost: each write in it kept, dropped or torn */
    MEM_FAULT_ENOSPC,      /* CREATE, PREWRITE, growing RESIZE, PUT, MKDIR: without effect */
    MEM_FAULT_NAME_EIO,    /* any name step: without effect */
    MEM_FAULT_READ_MISDIRECTED,  /* brings what lies elsewhere in the file */
    MEM_FAULT_WRITE_MISDIRECTED, /* lands elsewhere in the file; that it was written is reported */
    MEM_FAULT_KINDS,
};
/* The nth operation of that class from now fails, once (0: none). */
void mem_world_fail_at(struct mem_world *, enum mem_fault, uint64_t nth);
uint64_t mem_world_fault_hits(const struct mem_world *, enum mem_fault); /* since creation */
/* From the nth operation from now on the device of "/devN/" (N 2 to 9), of files or names on it,
 * all of them fail with EIO, and what was in its cache is lost like by a failed flush: until it is
 * mended (nth 0). A crash does not mend it. */
void mem_world_fail_device(struct mem_world *, unsigned device, uint64_t nth);
bool mem_world_device_failing(const struct mem_world *, unsigned device);
/* One in so many transfers and flushes takes a thousand times as long; 0: none. */
void mem_world_set_stalls(struct mem_world *, uint64_t one_in);
/* Of each device; what already exists stays. */
void mem_world_set_capacity(struct mem_world *, uint64_t bytes);
/* Flip one bit in each byte of the range, as it is on stable storage. 0 or -errno. */
int mem_world_corrupt(struct mem_world *, const char *path, uint64_t offset_bytes,
                      uint64_t len_bytes);
/* Reads of that block fail until it is written again. 0 or -errno. */
int mem_world_unreadable(struct mem_world *, const char *path, uint64_t offset_bytes);

/* The nth file there is (from 0, in some order that the same calls repeat): its path and size.
 * False: there are fewer. */
bool mem_world_file_nth(struct mem_world *, uint64_t nth, char *ret_path, size_t path_size,
                        uint64_t *ret_size_bytes);
/* What an open file holds now; how much of it there is. */
uint64_t mem_file_read(const struct env_file *file, void *buf, uint64_t len_bytes,
                       uint64_t offset_bytes);
/* What reads would see now. Byte count (less at end of file), or -errno. */
int64_t mem_world_read_file(struct mem_world *, const char *path, void *buf, uint64_t len_bytes,
                            uint64_t offset_bytes);
int64_t mem_world_file_size(struct mem_world *, const char *path);
bool mem_world_exists(struct mem_world *, const char *path);

/* Mean latencies; each op takes between half and one and a half of its mean. */
void mem_world_set_latency(struct mem_world *, uint64_t write_ns, uint64_t flush_ns,
                           uint64_t read_ns);
uint64_t mem_world_now_ns(const struct mem_world *);
uint64_t mem_world_writing_bytes(const struct mem_world *); /* of writes in flight */
/* Of those that begin in a written extent and want a flush: a crash may mix them with what lay
 * there. */
uint64_t mem_world_rewriting_bytes(const struct mem_world *);
uint64_t mem_world_next_ns(const struct mem_world *); /* of the next effect; UINT64_MAX: none */
/* For who turns several envs: has this one callbacks or messages to run? */
bool env_mem_ready(const struct env *);
/* Move the clock on; device effects that fall due take place, callbacks wait for turns. */
void mem_world_advance(struct mem_world *, uint64_t ns);
/* Set the wall clock forward or back. It starts at 2024-01-01 00:00:00 UTC. */
void mem_world_step_wall(struct mem_world *, int64_t ms);

/* All bytes released on this socket so far, in sending order; valid until the next turn. */
const void *mem_world_sink(struct mem_world *, int sock, size_t *ret_len_bytes);
/* Over every effect, callback and message, with its time. */
uint64_t mem_world_trace_hash(const struct mem_world *);

#endif
