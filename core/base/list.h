/* list.h: intrusive doubly linked list; a node is in at most one list, and knows whether it is.
 * Threads: none of its own; the owner of the list serialises. */
#ifndef CORE_BASE_LIST_H
#define CORE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev, *next;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list_node *head)
{
    head->prev = head->next = head;
}

/* A zeroed or removed node is not linked. */
static inline bool list_linked(const struct list_node *node)
{
    return node->next != NULL && node->next != node;
}

static inline bool list_empty(const struct list_node *head)
{
    return head->next == head;
}

static inline void list_insert_between(struct list_node *node, struct list_node *prev,
                                       struct list_node *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void list_push_tail(struct list_node *head, struct list_node *node)
{
    list_insert_between(node, head->prev, head);
}

static inline void list_push_head(struct list_node *head, struct list_node *node)
{
    list_insert_between(node, head, head->next);
}

/* Removing a node that is in no list does nothing. */
static inline void list_remove(struct list_node *node)
{
    if (node->next == NULL)
        return;
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}

static inline struct list_node *list_head(const struct list_node *head)
{
    return list_empty(head) ? NULL : head->next;
}

static inline struct list_node *list_pop_head(struct list_node *head)
{
    struct list_node *node = list_head(head);
    if (node != NULL)
        list_remove(node);
    return node;
}

/* Append all of src to dst; src is empty afterwards. */
static inline void list_splice_tail(struct list_node *dst, struct list_node *src)
{
    if (list_empty(src))
        return;
    src->next->prev = dst->prev;
    dst->prev->next = src->next;
    src->prev->next = dst;
    dst->prev = src->prev;
    list_init(src);
}

#define list_for_each(it, head)                                                                    \
    for (struct list_node *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, nxt, head)                                                          \
    for (struct list_node *it = (head)->next, *nxt = it->next; it != (head);                       \
         it = nxt, nxt = it->next)

#endif
