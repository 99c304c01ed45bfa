/* options.h: values of options that several commands take. 0 or -EINVAL, *ret untouched. */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdint.h>

/* A decimal number above zero and at most one of k, m, g, t: 512m. */
int option_size(const char *text, uint64_t *ret_bytes);
/* 1 .. most */
int option_count(const char *text, unsigned most, unsigned *ret);

#endif
