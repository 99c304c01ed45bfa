/* properties.h: Java's .properties syntax, as java.util.Properties.load reads it.
 * Happy path: properties_parse calls on_pair for each key, in order, with NUL-terminated strings
 * that live until it returns. Comments begin with # or !; a key ends at the first =, : or blank
 * that no backslash precedes; a line that ends in an odd number of backslashes goes on in the next.
 * Failure: -EINVAL with the line and a static reason; a nonzero result of on_pair ends the parsing
 *   and is returned.
 * Unlike Java, which takes bytes for ISO 8859-1, bytes are passed on as they are, so UTF-8 in
 * values works; \uXXXX becomes UTF-8. Pure. Threads: any. */
#ifndef CORE_BASE_PROPERTIES_H
#define CORE_BASE_PROPERTIES_H

#include <stddef.h>

typedef int (*properties_fn)(void *arg, unsigned line, const char *key, const char *value);

/* line: that on which the pair begins, from 1. ret_line and ret_reason are set on -EINVAL. */
int properties_parse(const char *text, size_t len, properties_fn on_pair, void *arg,
                     unsigned *ret_line, const char **ret_reason);

#endif
