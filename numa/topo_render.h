/* topo_render.h: a machine and its placement as text, JSON or a picture (SVG).
 * Happy path: topo_text(), topo_json() and topo_svg() write one whole document into out.
 * Failure: 0, -ENOMEM, or -EIO when out could not take it all; part of it may then be written.
 * Ownership: borrows all three arguments for the call. placement must have been computed from this
 *   very topo. Does not flush or close out.
 * Threads: any; pure but for out. */
#ifndef NUMA_TOPO_RENDER_H
#define NUMA_TOPO_RENDER_H

#include <stdio.h>

#include "numa/placement.h"
#include "numa/topo.h"

/* Like `lstopo --of console`, with the shards in their cores. */
int topo_text(const struct topo *topo, const struct placement *placement, FILE *out);

/* One object {"machine": {...}, "placement": {...}}; sizes in bytes, unknown values are null. */
int topo_json(const struct topo *topo, const struct placement *placement, FILE *out);

/* Self-contained, with its own background: readable on a dark and on a light page. */
int topo_svg(const struct topo *topo, const struct placement *placement, FILE *out);

#endif
