/* page_cache.h: what of a file the page cache holds, asked without waiting. Private to io/.
 * Happy path: page_cache_has() before pages are moved by a thread that must not wait for a disk.
 * Failure: "no" is never wrong for long, and may be said of pages that are there; "yes" may be too
 *   old at once: pages can be taken back at any time. Needs cachestat(), Linux 6.5.
 * Threads: any. */
#ifndef IO_PAGE_CACHE_H
#define IO_PAGE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* Pages of the stretch that are in the cache, read or just being read; -errno. */
int64_t page_cache_pages(int fd, uint64_t offset_bytes, uint64_t len_bytes);

/* Whether the stretch is there and read, and what follows it for as far as the kernel reads ahead:
 * or moving the stretch would start the next reads. Of what lies behind the end nothing is asked.
 */
bool page_cache_has(int fd, uint64_t offset_bytes, uint64_t len_bytes);

#endif
