/* meta_configs.h: sets of config entries as images hold them. Private to core/meta.
 * Failure: NULL is out of memory. Threads: as images. */
#ifndef CORE_META_META_CONFIGS_H
#define CORE_META_META_CONFIGS_H

#include "core/meta/meta_codec.h"

/* The configs of a new record: no key twice, values that can be read back and that the keys take. A
 * broker's keys are those whose default they are; it has others, which are not known here. Of what
 * is read from a log nothing is asked: what an older version took, and this one would not, is kept,
 * without effect. */
int meta_configs_check(const struct meta_record *r, bool of_broker, enum meta_change_mode mode);
struct meta_configs *meta_configs_create(const struct meta_record *r, uint64_t made_at);
void meta_configs_unref(struct meta_configs *); /* NULL is fine */
/* A broker's, over the defaults of its topics. NULL: nothing is set. */
void meta_configs_apply(const struct meta_configs *, struct topic_config *defaults);

#endif
