/* Uuids and topic names: the pure helpers of meta.h. */
#include "core/meta/meta.h"

#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

bool meta_uuid_is_zero(const struct meta_uuid *id)
{
    static const struct meta_uuid zero;
    return memcmp(id, &zero, sizeof(zero)) == 0;
}

/* 128 bits in 22 digits of 6: the last digit has 2 bits of its own and 4 of zero. */
void meta_uuid_text(const struct meta_uuid *id, char ret[23])
{
    for (unsigned digit = 0; digit < 22; digit++) {
        unsigned bit = digit * 6, byte = bit / 8;
        unsigned pair = (unsigned)id->b[byte] << 8 | (byte + 1 < 16 ? id->b[byte + 1] : 0);
        ret[digit] = base64url[pair >> (10 - bit % 8) & 63];
    }
    ret[22] = '\0';
}

int meta_uuid_parse(const char *text, struct meta_uuid *ret)
{
    struct meta_uuid id = {{0}};
    if (strlen(text) != 22)
        return -EINVAL;
    for (unsigned digit = 0; digit < 22; digit++) {
        const char *at = strchr(base64url, text[digit]);
        if (at == NULL)
            return -EINVAL;
        unsigned value = (unsigned)(at - base64url), bit = digit * 6, byte = bit / 8;
        unsigned pair = value << (10 - bit % 8);
        id.b[byte] |= (uint8_t)(pair >> 8);
        if (byte + 1 < 16)
            id.b[byte + 1] |= (uint8_t)pair;
        else if ((pair & 0xff) != 0)
            return -EINVAL; /* bits beyond the 128th: not what any uuid prints as */
    }
    *ret = id;
    return 0;
}

/* A random (version 4) uuid of RFC 9562. The version bits keep it clear of Kafka's reserved ids,
 * which are all numbers below 100. */
void meta_uuid_make(uint64_t random_hi, uint64_t random_lo, struct meta_uuid *ret)
{
    be_store64(ret->b, random_hi);
    be_store64(ret->b + 8, random_lo);
    ret->b[6] = (uint8_t)((ret->b[6] & 0x0f) | 0x40);
    ret->b[8] = (uint8_t)((ret->b[8] & 0x3f) | 0x80);
    if (ret->b[0] >> 2 == 62) /* would print with a leading '-', which tools take for an option */
        ret->b[0] &= 0x7f;
}

static bool name_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

int meta_topic_name_check(const char *name, size_t len)
{
    if (len == 0 || len > META_TOPIC_NAME_MAX)
        return -EINVAL;
    if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
        return -EINVAL; /* would be a directory's own names */
    for (size_t i = 0; i < len; i++)
        if (!name_char_ok(name[i]))
            return -EINVAL;
    return 0;
}

static bool names_collide(const char *a, const char *b)
{
    bool differ = false;
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        if (*a == *b)
            continue;
        if ((*a != '.' && *a != '_') || (*b != '.' && *b != '_'))
            return false;
        differ = true;
    }
    return *a == *b && differ;
}

bool meta_topic_name_collides(const struct meta_image *image, const char *name)
{
    if (strpbrk(name, "._") == NULL)
        return false;
    for (unsigned i = 0; i < image->topics_n; i++)
        if (names_collide(image->topics[i]->name, name))
            return true;
    return false;
}
