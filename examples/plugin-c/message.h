/*
 * Messages of the plugin ABI in C11: reading requests, and writing replies. Nothing here is particular to one plugin:
 * copy the file as it is.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "storage_plugin.h"

/* Why a request, or one mutation of it, is not done: a constant, so that an error needs no memory of its own. */
struct refusal {
    const char *kind, *message;
};

static const struct refusal MALFORMED = {"internal", "the request is malformed: host and plugin disagree on it"};
static const struct refusal NO_MEMORY = {"storage_full", "there is no memory left"};
static const struct refusal OVERFLOW = {"out_of_range", "a counter would leave the range of 64 bits"};
static const struct refusal UNSUPPORTED = {"unsupported", "the plugin does not offer this"};

/* ---- Reading MessagePack. Nothing after the end is read, and a reader that met nonsense stays failed. ---- */

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

/* Text of a message: not ended by NUL, and good for as long as the message is. */
struct text {
    const char *bytes;
    size_t len;
};

enum item_kind { NIL, BOOLEAN, POSITIVE, NEGATIVE, TEXT, OPAQUE, ARRAY, MAP };

struct item {
    enum item_kind kind;
    uint64_t number; /* The integer's bits, the bytes of text or of something opaque, or the number of elements. */
};

static inline const uint8_t *take(struct reader *from, uint64_t count) {
    if (from->failed || (uint64_t)(from->end - from->at) < count) {
        from->failed = true;
        return NULL;
    }
    from->at += count;
    return from->at - count;
}

static inline uint64_t take_number(struct reader *from, unsigned width) {
    const uint8_t *bytes = take(from, width);
    uint64_t number = 0;
    for (unsigned i = 0; bytes && i < width; i++) number = number << 8 | bytes[i];
    return number;
}

/* Reads the next item up to its text or elements. What stands for nothing is nil, with the reader failed. */
static inline struct item next_item(struct reader *from) {
    const uint8_t *first = take(from, 1);
    if (!first) return (struct item){NIL, 0};
    uint8_t byte = *first;
    if (byte <= 0x7f) return (struct item){POSITIVE, byte};
    if (byte <= 0x8f) return (struct item){MAP, byte & 0x0f};
    if (byte <= 0x9f) return (struct item){ARRAY, byte & 0x0f};
    if (byte <= 0xbf) return (struct item){TEXT, byte & 0x1f};
    if (byte == 0xc0) return (struct item){NIL, 0};
    if (byte == 0xc1) {
        from->failed = true;
        return (struct item){NIL, 0};
    }
    if (byte <= 0xc3) return (struct item){BOOLEAN, byte & 1};
    if (byte <= 0xc6) return (struct item){OPAQUE, take_number(from, 1u << (byte - 0xc4))};
    if (byte <= 0xc9) return (struct item){OPAQUE, take_number(from, 1u << (byte - 0xc7)) + 1};
    if (byte <= 0xcb) return (struct item){OPAQUE, 4u << (byte - 0xca)};
    if (byte <= 0xcf) return (struct item){POSITIVE, take_number(from, 1u << (byte - 0xcc))};
    if (byte <= 0xd3) {
        unsigned bits = 8u << (byte - 0xd0);
        uint64_t number = take_number(from, bits / 8);
        if (!(number >> (bits - 1))) return (struct item){POSITIVE, number};
        return (struct item){NEGATIVE, bits < 64 ? number | UINT64_MAX << bits : number};
    }
    if (byte <= 0xd8) return (struct item){OPAQUE, (1u << (byte - 0xd4)) + 1};
    if (byte <= 0xdb) return (struct item){TEXT, take_number(from, 1u << (byte - 0xd9))};
    if (byte <= 0xdd) return (struct item){ARRAY, take_number(from, 2u << (byte - 0xdc))};
    if (byte <= 0xdf) return (struct item){MAP, take_number(from, 2u << (byte - 0xde))};
    return (struct item){NEGATIVE, (uint64_t)byte | UINT64_MAX << 8};
}

static inline uint64_t read_kind(struct reader *from, enum item_kind kind) {
    struct item item = next_item(from);
    if (item.kind != kind) from->failed = true;
    return from->failed ? 0 : item.number;
}

static inline struct text read_text(struct reader *from) {
    uint64_t len = read_kind(from, TEXT);
    const uint8_t *bytes = take(from, len);
    return bytes ? (struct text){(const char *)bytes, (size_t)len} : (struct text){"", 0};
}

static inline int64_t read_integer(struct reader *from) {
    struct item item = next_item(from);
    bool fits = item.kind == NEGATIVE || (item.kind == POSITIVE && item.number <= INT64_MAX);
    if (!fits) from->failed = true;
    return from->failed ? 0 : (int64_t)item.number;
}

/* Steps over one value with all that it holds. It counts what is left instead of calling itself: no depth hurts. */
static inline void skip(struct reader *from) {
    for (uint64_t left = 1; left > 0 && !from->failed; left--) {
        struct item item = next_item(from);
        if (item.kind == TEXT || item.kind == OPAQUE) take(from, item.number);
        if (item.kind == ARRAY) left += item.number;
        if (item.kind == MAP) left += 2 * item.number;
    }
}

static inline bool is(struct text text, const char *word) {
    return text.len == strlen(word) && memcmp(text.bytes, word, text.len) == 0;
}

static inline bool same(struct text a, struct text b) {
    return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0;
}

/* Of bytes, as strcmp does it. */
static inline int order(struct text a, struct text b) {
    int order = memcmp(a.bytes, b.bytes, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* The value under a key of a map; for a key that is missing, nil. */
static inline struct reader field(struct reader map, struct text key) {
    static const uint8_t nil = 0xc0;
    for (uint64_t left = read_kind(&map, MAP); left > 0 && !map.failed; left--) {
        if (same(read_text(&map), key)) return map;
        skip(&map);
    }
    return (struct reader){&nil, &nil + 1, map.failed};
}

static inline struct reader argument(struct reader map, const char *key) {
    return field(map, (struct text){key, strlen(key)});
}

static inline bool is_nil(struct reader from) {
    return next_item(&from).kind == NIL;
}

/* ---- Writing: MessagePack, and any other bytes. A buffer that found no memory stays failed. ---- */

struct buffer {
    uint8_t *data;
    size_t len, capacity;
    bool failed;
};

static inline void write_bytes(struct buffer *to, const void *bytes, size_t len) {
    if (len > SIZE_MAX / 4 - to->len) to->failed = true;
    if (to->failed || len == 0) return;
    if (to->len + len > to->capacity) {
        size_t capacity = 2 * (to->len + len) + 64;
        uint8_t *data = realloc(to->data, capacity);
        if (!data) {
            to->failed = true;
            return;
        }
        to->data = data;
        to->capacity = capacity;
    }
    memcpy(to->data + to->len, bytes, len);
    to->len += len;
}

/* A byte, and a number of `width` bytes after it. */
static inline void write_number(struct buffer *to, uint8_t first, uint64_t number, unsigned width) {
    uint8_t bytes[9] = {first};
    for (unsigned i = 0; i < width; i++) bytes[1 + i] = (uint8_t)(number >> 8 * (width - 1 - i));
    write_bytes(to, bytes, 1 + width);
}

static inline void write_nil(struct buffer *to) { write_number(to, 0xc0, 0, 0); }
static inline void write_bool(struct buffer *to, bool value) { write_number(to, value ? 0xc3 : 0xc2, 0, 0); }

static inline void write_unsigned(struct buffer *to, uint64_t number) {
    if (number <= 0x7f) write_number(to, (uint8_t)number, 0, 0);
    else write_number(to, 0xcf, number, 8);
}

static inline void write_integer(struct buffer *to, int64_t number) { write_number(to, 0xd3, (uint64_t)number, 8); }

/* The heads of an array and a map of at most 15 elements or pairs. */
static inline void write_array(struct buffer *to, uint8_t count) { write_number(to, 0x90 | count, 0, 0); }
static inline void write_map(struct buffer *to, uint8_t count) { write_number(to, 0x80 | count, 0, 0); }

static inline void write_text_head(struct buffer *to, size_t len) {
    if (len <= 31) write_number(to, 0xa0 | (uint8_t)len, 0, 0);
    else write_number(to, 0xdb, len, 4);
}

static inline void write_text(struct buffer *to, struct text text) {
    write_text_head(to, text.len);
    write_bytes(to, text.bytes, text.len);
}

static inline void write_word(struct buffer *to, const char *word) {
    write_text(to, (struct text){word, strlen(word)});
}

/* A key of a map, and its value. */
static inline void write_word_at(struct buffer *to, const char *key, const char *word) {
    write_word(to, key);
    write_word(to, word);
}

static inline void write_unsigned_at(struct buffer *to, const char *key, uint64_t number) {
    write_word(to, key);
    write_unsigned(to, number);
}

static inline void write_integer_at(struct buffer *to, const char *key, int64_t number) {
    write_word(to, key);
    write_integer(to, number);
}

/* An array or map of which it shows later how many elements it has: `end_many` writes the number in. */
enum many { MANY_ELEMENTS = 0xdd, MANY_PAIRS = 0xdf };

static inline size_t begin_many(struct buffer *to, enum many what) {
    write_number(to, (uint8_t)what, 0, 4);
    return to->len;
}

static inline void end_many(struct buffer *to, size_t begun, uint64_t count) {
    for (unsigned i = 1; i <= 4 && !to->failed; i++) to->data[begun - i] = (uint8_t)(count >> 8 * (i - 1));
}

/* ---- Requests. ---- */

#define MAX_KEY_BYTES 512

/* The address of a record; its key is empty where none was read. */
struct address {
    struct text collection, key;
};

struct request {
    storage_message message; /* The plugin's own, until `release_message`. */
    struct text operation;
    struct reader arguments;      /* Failed once an argument was not what it should be. */
    const atomic_bool *cancelled; /* Of a pending call, else NULL. */
};

/* Takes a message over as a request. One that is malformed has an operation that no plugin knows: none. */
static inline void take_request(const storage_message *message, struct request *request) {
    const uint8_t *head = message->head;
    struct reader from = {head, head ? head + message->head_len : NULL, head == NULL};
    uint64_t elements = read_kind(&from, ARRAY);
    request->message = *message;
    request->operation = read_text(&from);
    request->arguments = from;
    request->cancelled = NULL;
    if (elements < 2) request->operation.len = 0;
}

static inline void release_message(const storage_message *message) {
    if (message->release) message->release(message->owner);
}

/* The text that an argument is; empty if it is missing. */
static inline struct text text_argument(struct request *request, const char *key) {
    struct reader from = argument(request->arguments, key);
    struct text text = is_nil(from) ? (struct text){"", 0} : read_text(&from);
    request->arguments.failed |= from.failed;
    return text;
}

/* Reads an address. */
static inline struct address read_address(struct reader from) {
    struct address at;
    uint64_t elements = read_kind(&from, ARRAY);
    at.collection = read_text(&from);
    at.key = read_text(&from);
    if (elements < 2 || from.failed) at.key.len = 0;
    return at;
}

/* Reads the position of a blob, and gives the blob; false if the message has none there. */
static inline bool read_blob(struct reader *from, const struct request *request, storage_slice *blob) {
    uint64_t position = read_kind(from, POSITIVE);
    if (from->failed || position >= request->message.blob_count) from->failed = true;
    else *blob = request->message.blobs[position];
    return !from->failed;
}

/* ---- Mutations, as `write` asks for them. ---- */

enum value_kind { JSON, BYTES, COUNTERS };
enum condition { ALWAYS, IF_ABSENT, IF_PRESENT, IF_VERSION };
enum change { PUT, DELETE, TOUCH, INCREMENT, CHECK };

/* Milliseconds since the Unix epoch, if set. */
struct expiry {
    bool set;
    int64_t at;
};

struct mutation {
    struct address at;
    enum condition condition;
    struct text version; /* For IF_VERSION. */
    enum change change;
    struct expiry expires;
    enum value_kind kind;   /* Of a put, and the next two: */
    struct text media_type; /* of bytes; */
    storage_slice data;     /* of counters as a MessagePack map of integers. */
    struct reader deltas;   /* Of an increment: such a map. */
};

/* Steps over a map of integers. */
static inline void skip_counters(struct reader *from) {
    for (uint64_t left = read_kind(from, MAP); left > 0 && !from->failed; left--) {
        read_text(from);
        read_integer(from);
    }
}

/* Reads the value of a put. One of a kind that is not known here is unsupported. */
static inline const struct refusal *read_value(struct reader tuple, const struct request *request,
                                               struct mutation *to) {
    uint64_t elements = read_kind(&tuple, ARRAY);
    struct text kind = read_text(&tuple);
    to->media_type = (struct text){"", 0};
    to->kind = is(kind, "counters") ? COUNTERS : is(kind, "bytes") ? BYTES : JSON;
    if (to->kind == JSON && !is(kind, "json")) return tuple.failed ? &MALFORMED : &UNSUPPORTED;
    if (elements < (to->kind == BYTES ? 3 : 2)) return &MALFORMED;
    if (to->kind == BYTES) to->media_type = read_text(&tuple);
    if (to->kind == COUNTERS) {
        to->data.data = tuple.at;
        skip_counters(&tuple);
        to->data.len = (size_t)(tuple.at - to->data.data);
    } else {
        read_blob(&tuple, request, &to->data);
    }
    return tuple.failed ? &MALFORMED : NULL;
}

static inline void read_condition(struct reader *tuple, struct mutation *to) {
    if (is_nil(*tuple)) return;
    uint64_t elements = read_kind(tuple, ARRAY);
    struct text name = read_text(tuple);
    to->condition = is(name, "absent") ? IF_ABSENT : is(name, "present") ? IF_PRESENT : IF_VERSION;
    if (to->condition == IF_VERSION && (elements < 2 || !is(name, "version"))) tuple->failed = true;
    if (to->condition == IF_VERSION) to->version = read_text(tuple);
}

/* Reads a mutation into one that is all zero. */
static inline const struct refusal *read_mutation(struct reader from, const struct request *request,
                                                  struct mutation *to) {
    struct reader condition = argument(from, "if"), change = argument(from, "do");
    to->at = read_address(argument(from, "at"));
    if (to->at.key.len == 0) return &MALFORMED;
    read_condition(&condition, to);
    uint64_t elements = read_kind(&change, ARRAY);
    struct text name = read_text(&change);
    struct reader detail = to->deltas = change;
    if (is(name, "put")) to->change = PUT;
    else if (is(name, "increment")) to->change = INCREMENT;
    else if (is(name, "touch")) to->change = TOUCH;
    else if (is(name, "delete")) to->change = DELETE;
    else if (is(name, "check")) to->change = CHECK;
    else return change.failed ? &MALFORMED : &UNSUPPORTED;
    if (elements < (to->change == PUT || to->change == INCREMENT ? 3 : to->change == TOUCH ? 2 : 1)) return &MALFORMED;
    if (to->change == PUT) skip(&change);
    if (to->change == INCREMENT) skip_counters(&change);
    to->expires.set = to->change != DELETE && to->change != CHECK && !is_nil(change);
    if (to->expires.set) to->expires.at = read_integer(&change);
    if (condition.failed || change.failed) return &MALFORMED;
    return to->change == PUT ? read_value(detail, request, to) : NULL;
}

/* Adds to counters, both MessagePack maps: `sums` are those that were named, `all` are these and the others. */
static inline const struct refusal *add_counters(struct reader counters, struct reader deltas, struct buffer *sums,
                                                 struct buffer *all) {
    struct reader from = deltas;
    uint64_t named = read_kind(&from, MAP), kept = 0;
    size_t in_sums = begin_many(sums, MANY_PAIRS), in_all = begin_many(all, MANY_PAIRS);
    for (uint64_t left = named; left > 0 && !from.failed; left--) {
        struct text name = read_text(&from);
        struct reader before = field(counters, name);
        int64_t delta = read_integer(&from), sum = is_nil(before) ? 0 : read_integer(&before);
        if (delta > 0 ? sum > INT64_MAX - delta : sum < INT64_MIN - delta) return &OVERFLOW;
        write_text(sums, name);
        write_integer(sums, sum + delta);
        write_text(all, name);
        write_integer(all, sum + delta);
    }
    if (from.failed) return &MALFORMED;
    for (uint64_t left = read_kind(&counters, MAP); left > 0 && !counters.failed; left--) {
        struct text name = read_text(&counters);
        int64_t value = read_integer(&counters);
        if (!is_nil(field(deltas, name))) continue;
        write_text(all, name);
        write_integer(all, value);
        kept++;
    }
    end_many(sums, in_sums, named);
    end_many(all, in_all, named + kept);
    return sums->failed || all->failed ? &NO_MEMORY : NULL;
}

/* ---- Replies. ---- */

/* What keeps the bytes of a blob alive. */
struct keeper {
    void *owner;
    void (*release)(void *owner);
};

/* A message on its way to the host. */
struct reply {
    struct buffer head;
    struct buffer blobs;   /* Of storage_slice. */
    struct buffer keepers; /* Of struct keeper. */
};

/* Writes a blob's position. Without memory for it the keeper is released at once, else with the message. */
static inline void write_blob(struct reply *to, const void *data, size_t len, struct keeper keeper) {
    storage_slice slice = {data, len};
    write_unsigned(&to->head, to->blobs.len / sizeof slice);
    write_bytes(&to->blobs, &slice, sizeof slice);
    write_bytes(&to->keepers, &keeper, sizeof keeper);
    if (to->keepers.failed && keeper.release) keeper.release(keeper.owner);
}

/* Writes ["error", …]. The record and the position of the mutation that it is about are left out if NULL and < 0. */
static inline void write_refusal(struct buffer *to, const struct refusal *refusal, const struct address *at,
                                 int64_t position) {
    write_array(to, 2);
    write_word(to, "error");
    write_map(to, position < 0 ? 2 : 3);
    write_word(to, "kind");
    write_word(to, refusal->kind);
    write_word(to, "message");
    size_t len = strlen(refusal->message);
    write_text_head(to, at ? at->collection.len + 1 + at->key.len + 2 + len : len);
    if (at) {
        write_bytes(to, at->collection.bytes, at->collection.len);
        write_bytes(to, "/", 1);
        write_bytes(to, at->key.bytes, at->key.len);
        write_bytes(to, ": ", 2);
    }
    write_bytes(to, refusal->message, len);
    if (position < 0) return;
    write_word(to, "mutation");
    write_unsigned(to, (uint64_t)position);
}

static inline bool out_of_memory(const struct reply *reply) {
    return reply->head.failed || reply->blobs.failed || reply->keepers.failed;
}

/* Forgets what was written, such as half an answer. */
static inline void reset_reply(struct reply *reply) {
    for (size_t at = 0; at < reply->keepers.len; at += sizeof(struct keeper)) {
        struct keeper keeper;
        memcpy(&keeper, reply->keepers.data + at, sizeof keeper);
        if (keeper.release) keeper.release(keeper.owner);
    }
    reply->head.len = reply->blobs.len = reply->keepers.len = 0;
}

static inline void release_reply(void *owner) {
    struct reply *reply = owner;
    reset_reply(reply);
    free(reply->keepers.data);
    free(reply->blobs.data);
    free(reply->head.data);
    free(reply);
}

/* Hands a reply from calloc over to the host, who releases it. Without memory (also if it is NULL) it says so. */
static inline void send_reply(struct reply *reply, storage_message *message) {
    static const uint8_t no_memory[] = "\x92\xa5" "error" "\x82\xa4" "kind" "\xac" "storage_full"
                                       "\xa7" "message" "\xb7" "there is no memory left";
    *message = (storage_message){no_memory, sizeof no_memory - 1, NULL, 0, NULL, NULL};
    if (reply && !out_of_memory(reply)) {
        *message = (storage_message){
            .head = reply->head.data, .head_len = reply->head.len,
            .blobs = (const storage_slice *)(const void *)reply->blobs.data,
            .blob_count = reply->blobs.len / sizeof(storage_slice), .owner = reply, .release = release_reply};
    } else if (reply) {
        release_reply(reply);
    }
}

/* ---- Cursors: a fingerprint, and the key that a page ended with, in hexadecimal. ---- */

static const char HEXADECIMAL[] = "0123456789abcdef";

static inline void to_hex(uint64_t number, char digits[16]) {
    for (int i = 0; i < 16; i++) digits[i] = HEXADECIMAL[number >> (60 - 4 * i) & 15];
}

/* FNV-1a over what a cursor belongs to. It detects damage and other requests, and guards nothing. */
static inline uint64_t fingerprint(struct text collection, struct text prefix, struct text key) {
    struct text parts[] = {collection, prefix, key};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int part = 0; part < 3; part++) {
        for (size_t i = 0; i < parts[part].len; i++) {
            hash = (hash ^ (uint8_t)parts[part].bytes[i]) * UINT64_C(0x100000001b3);
        }
        hash *= UINT64_C(0x100000001b3); /* Ends the part, as a NUL would: none is in a name. */
    }
    return hash;
}

static inline void write_cursor(struct buffer *to, struct text collection, struct text prefix, struct text key) {
    char digits[16];
    to_hex(fingerprint(collection, prefix, key), digits);
    write_text_head(to, sizeof digits + 2 * key.len);
    write_bytes(to, digits, sizeof digits);
    for (size_t i = 0; i < key.len; i++) {
        to_hex((uint8_t)key.bytes[i], digits);
        write_bytes(to, digits + 14, 2);
    }
}

/* The key of a cursor, in `bytes`; false if the cursor is damaged or another request's. */
static inline bool read_cursor(struct text cursor, struct text collection, struct text prefix,
                               char bytes[MAX_KEY_BYTES], struct text *key) {
    char digits[16];
    *key = (struct text){bytes, cursor.len < sizeof digits ? 0 : (cursor.len - sizeof digits) / 2};
    if (key->len == 0 || key->len > MAX_KEY_BYTES || cursor.len != sizeof digits + 2 * key->len) return false;
    for (size_t i = 0; i < 2 * key->len; i++) {
        const char *digit = memchr(HEXADECIMAL, cursor.bytes[sizeof digits + i], 16);
        if (!digit) return false;
        int value = (int)(digit - HEXADECIMAL);
        bytes[i / 2] = (char)(i % 2 == 0 ? value << 4 : (uint8_t)bytes[i / 2] | value);
    }
    to_hex(fingerprint(collection, prefix, *key), digits);
    return memcmp(digits, cursor.bytes, sizeof digits) == 0;
}

#endif
