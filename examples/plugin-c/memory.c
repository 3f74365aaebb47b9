/*
 * A storage plugin in C11: the type "c-memory", whose stores live in this process's memory.
 *
 * It offers what a small key-value store has. From top to bottom: records in a sorted table, mutations, operations, and
 * what the host sees. message.h reads and writes messages; calls.h runs each call at once, or pending on a thread. The
 * rules stand in storage_plugin.h, what messages hold in docs/plugin-abi.md.
 */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "calls.h"
#include "message.h"

#define NAME "c-memory"
#define VERSION "1.0.0"
#define BUILD NAME " " VERSION ", compiler " __VERSION__

#define CLEAR_STEP 1000 /* Records that `clear` removes in one go, before others have their turn. */

static const struct refusal CLOSED = {"closed", "the store has been closed"};
static const struct refusal BAD_URL = {"invalid_input", "the URL is not " NAME ": with nothing after the colon"};
static const struct refusal BAD_CONFIG = {"invalid_input", "the configuration is not {}: " NAME " takes no keys"};
static const struct refusal BAD_CURSOR = {"invalid_input", "the cursor is not valid for this request: pass `next` of "
                                          "the page before, or start again without one"};
static const struct refusal EXISTS = {"precondition_failed", "the record exists already"};
static const struct refusal ABSENT = {"precondition_failed", "the record does not exist"};
static const struct refusal CHANGED = {"precondition_failed", "the record was changed: it has another version"};
static const struct refusal NOT_FOUND = {"not_found", "there is no record to touch"};
static const struct refusal NO_COUNTERS = {"type_mismatch", "the record does not hold counters"};

/* ---- Values and records, in a table that is sorted by the bytes of collection and key. ---- */

/* What a record holds. It never changes once it is made, so that replies point into it without a copy or a lock. */
struct value {
    atomic_size_t references;
    enum value_kind kind;
    size_t len, media_type_len;
    uint8_t bytes[]; /* The data, of counters as a MessagePack map; then the media type. */
};

struct record {
    struct address at; /* Points into `names`. */
    struct value *value;
    uint64_t version;
    int64_t created, updated;
    struct expiry expires;
    char names[];
};

struct store {
    atomic_size_t references; /* The host's one, and one for each pending call. */
    pthread_mutex_t lock;     /* Over everything below. */
    bool closed;
    struct record **records;
    size_t count, capacity;
    uint64_t last_version; /* Only ever counts up: no version is given twice. */
    uint64_t reads, writes;
};

static struct value *new_value(enum value_kind kind, const void *data, size_t len, struct text media_type) {
    struct value *value = len < SIZE_MAX / 4 ? malloc(sizeof *value + len + media_type.len) : NULL;
    if (!value) return NULL;
    atomic_init(&value->references, 1);
    value->kind = kind;
    value->len = len;
    value->media_type_len = media_type.len;
    if (len > 0) memcpy(value->bytes, data, len);
    memcpy(value->bytes + len, media_type.bytes, media_type.len);
    return value;
}

static struct value *retain_value(struct value *value) {
    atomic_fetch_add(&value->references, 1);
    return value;
}

static void release_value(void *value_or_null) {
    struct value *value = value_or_null;
    if (value && atomic_fetch_sub(&value->references, 1) == 1) free(value);
}

static struct record *new_record(struct address at, struct value *value) {
    struct record *record = malloc(sizeof *record + at.collection.len + at.key.len);
    if (!record) return NULL;
    *record = (struct record){.value = retain_value(value)};
    record->at.collection = (struct text){record->names, at.collection.len};
    record->at.key = (struct text){record->names + at.collection.len, at.key.len};
    memcpy(record->names, at.collection.bytes, at.collection.len);
    memcpy(record->names + at.collection.len, at.key.bytes, at.key.len);
    return record;
}

static void free_record(struct record *record) {
    if (record) release_value(record->value);
    free(record);
}

static int64_t now_in_millis(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool has_expired(struct expiry expires, int64_t now) { return expires.set && expires.at <= now; }

/* Where the record is, or where it would be. */
static size_t place_of(const struct store *store, struct address at, bool *found) {
    size_t low = 0, high = store->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int side = order(store->records[middle]->at.collection, at.collection);
        if (side == 0) side = order(store->records[middle]->at.key, at.key);
        if (side == 0) *found = true;
        if (side < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The record that is there and has not expired, or NULL. */
static struct record *find(const struct store *store, struct address at, int64_t now) {
    bool found;
    size_t place = place_of(store, at, &found);
    return found && !has_expired(store->records[place]->expires, now) ? store->records[place] : NULL;
}

/* Makes room for one more record, so that the `replace` after it cannot fail. */
static bool make_room(struct store *store) {
    if (store->count < store->capacity) return true;
    size_t capacity = 2 * store->capacity + 16;
    struct record **records = realloc(store->records, capacity * sizeof *records);
    if (!records) return false;
    store->records = records;
    store->capacity = capacity;
    return true;
}

/* Puts a record where one is or is not, or takes away (NULL) what is there. Returns what was there. */
static struct record *replace(struct store *store, struct address at, struct record *record) {
    bool found;
    size_t place = place_of(store, at, &found);
    struct record **there = store->records + place, *before = found ? *there : NULL;
    if (!found && record) memmove(there + 1, there, (store->count++ - place) * sizeof *there);
    if (found && !record) memmove(there, there + 1, (--store->count - place) * sizeof *there);
    if (record) *there = record;
    return before;
}

/* Frees records from a place on: of this collection, at most so many. Returns how many; `live` counts the unexpired. */
static size_t remove_records(struct store *store, size_t first, size_t most, const struct text *of, uint64_t *live) {
    size_t end = first;
    int64_t now = now_in_millis();
    for (; end < store->count && end - first < most; end++) {
        if (of && !same(store->records[end]->at.collection, *of)) break;
        *live += !has_expired(store->records[end]->expires, now);
        free_record(store->records[end]);
    }
    struct record **there = store->records + first;
    if (end > first) memmove(there, store->records + end, (store->count - end) * sizeof *there);
    store->count -= end - first;
    return end - first;
}

static const struct refusal *enter_store(struct store *store) {
    pthread_mutex_lock(&store->lock);
    if (!store->closed) return NULL;
    pthread_mutex_unlock(&store->lock);
    return &CLOSED;
}

static void leave_store(struct store *store) { pthread_mutex_unlock(&store->lock); }
static void retain_store(struct store *store) { atomic_fetch_add(&store->references, 1); }

static void release_store(struct store *store) {
    uint64_t live = 0;
    if (atomic_fetch_sub(&store->references, 1) != 1) return;
    remove_records(store, 0, SIZE_MAX, NULL, &live);
    pthread_mutex_destroy(&store->lock);
    free(store->records);
    free(store);
}

/* A version is the number's 16 hexadecimal digits. */
static void write_version(struct buffer *to, uint64_t version) {
    char digits[16];
    to_hex(version, digits);
    write_text(to, (struct text){digits, sizeof digits});
}

static void write_record(struct reply *to, const struct record *record) {
    struct buffer *head = &to->head;
    struct value *value = record->value;
    write_map(head, record->expires.set ? 6 : 5);
    write_word(head, "at");
    write_array(head, 2);
    write_text(head, record->at.collection);
    write_text(head, record->at.key);
    write_word(head, "version");
    write_version(head, record->version);
    write_integer_at(head, "created", record->created);
    write_integer_at(head, "updated", record->updated);
    if (record->expires.set) write_integer_at(head, "expires", record->expires.at);
    write_word(head, "value");
    write_array(head, value->kind == BYTES ? 3 : 2);
    write_word(head, value->kind == JSON ? "json" : value->kind == BYTES ? "bytes" : "counters");
    struct text media_type = {(const char *)value->bytes + value->len, value->media_type_len};
    if (value->kind == BYTES) write_text(head, media_type);
    if (value->kind == COUNTERS) write_bytes(head, value->bytes, value->len);
    else write_blob(to, value->bytes, value->len, (struct keeper){retain_value(value), release_value});
}

/* ---- Mutations. ---- */

/* A mutation, and how to undo it. */
struct step {
    struct mutation wanted;
    bool done;
    struct record *before; /* This was there before it was done, or nothing. */
};

static const struct refusal *check(const struct mutation *mutation, const struct record *current) {
    char digits[16];
    if (mutation->condition == ALWAYS) return NULL;
    if (mutation->condition == IF_ABSENT) return current ? &EXISTS : NULL;
    if (!current) return &ABSENT;
    to_hex(current->version, digits);
    bool holds = mutation->condition == IF_PRESENT || same(mutation->version, (struct text){digits, sizeof digits});
    return holds ? NULL : &CHANGED;
}

/* The value that the record has after the mutation, or NULL if the record goes. `sums`: what an increment answers. */
static const struct refusal *next_value(const struct mutation *mutation, const struct record *current,
                                        struct buffer *sums, struct value **value) {
    static const uint8_t no_counters[] = {0x80};
    if (mutation->change == TOUCH && !current) return &NOT_FOUND;
    if (mutation->change == TOUCH) *value = retain_value(current->value);
    if (mutation->change == PUT) {
        *value = new_value(mutation->kind, mutation->data.data, mutation->data.len, mutation->media_type);
        return *value ? NULL : &NO_MEMORY;
    }
    if (mutation->change != INCREMENT) return NULL;
    struct reader counters = {no_counters, no_counters + 1, false};
    if (current && current->value->kind != COUNTERS) return &NO_COUNTERS;
    if (current) counters = (struct reader){current->value->bytes, current->value->bytes + current->value->len, false};
    struct buffer all = {0};
    const struct refusal *refusal = add_counters(counters, mutation->deltas, sums, &all);
    if (!refusal) *value = new_value(COUNTERS, all.data, all.len, (struct text){"", 0});
    free(all.data);
    return refusal ? refusal : *value ? NULL : &NO_MEMORY;
}

/* Puts the next record in place of the current one. */
static const struct refusal *change(struct store *store, struct step *step, const struct record *current, int64_t now,
                                    struct buffer *sums, const struct record **after) {
    const struct mutation *mutation = &step->wanted;
    struct value *value = NULL;
    const struct refusal *refusal = next_value(mutation, current, sums, &value);
    if (refusal) return refusal;
    struct expiry expires = mutation->change == INCREMENT && current ? current->expires : mutation->expires;
    bool stays = value && !has_expired(expires, now);
    struct record *record = stays && make_room(store) ? new_record(mutation->at, value) : NULL;
    release_value(value);
    if (stays && !record) return &NO_MEMORY;
    if (record) {
        record->version = ++store->last_version;
        record->created = current ? current->created : now;
        record->updated = now;
        record->expires = expires;
    }
    step->before = replace(store, mutation->at, record);
    step->done = true;
    *after = record;
    return NULL;
}

/* Does one mutation, and writes what it did. */
static const struct refusal *mutate(struct store *store, struct step *step, int64_t now, struct buffer *to) {
    const struct mutation *mutation = &step->wanted;
    const struct record *current = find(store, mutation->at, now);
    const struct record *after = current;
    struct buffer sums = {0};
    const struct refusal *refusal = check(mutation, current);
    if (!refusal && mutation->change != CHECK) refusal = change(store, step, current, now, &sums, &after);
    if (!refusal) {
        write_array(to, 2);
        write_word(to, "ok");
        write_map(to, after ? 2 : 1);
        if (after) {
            write_word(to, "version");
            write_version(to, after->version);
        }
        write_word(to, "effect");
        write_array(to, mutation->change == DELETE || mutation->change == INCREMENT ? 2 : 1);
        write_word(to, mutation->change == DELETE ? "deleted" : mutation->change == INCREMENT ? "counters" : "done");
        if (mutation->change == DELETE) write_bool(to, current != NULL);
        if (mutation->change == INCREMENT) write_bytes(to, sums.data, sums.len);
    }
    free(sums.data);
    return refusal;
}

static void undo(struct store *store, struct step *steps, uint64_t count) {
    while (count-- > 0) {
        if (steps[count].done) free_record(replace(store, steps[count].wanted.at, steps[count].before));
        steps[count].before = NULL;
    }
}

/* ---- Operations. Each writes its answer, or returns why there is none. ---- */

static size_t first_of(const struct store *store, struct text collection) {
    bool found;
    return place_of(store, (struct address){collection, {"", 0}}, &found);
}

static const struct refusal *get(struct store *store, struct request *request, struct reply *reply) {
    struct reader keys = argument(request->arguments, "keys");
    uint64_t count = read_kind(&keys, ARRAY), done = 0;
    int64_t now = now_in_millis();
    size_t begun = begin_many(&reply->head, MANY_ELEMENTS);
    for (; done < count && !keys.failed; done++) {
        struct record *record = find(store, read_address(keys), now);
        if (record) write_record(reply, record);
        else write_nil(&reply->head);
        skip(&keys);
    }
    end_many(&reply->head, begun, done);
    if (keys.failed) return &MALFORMED;
    store->reads += done;
    return NULL;
}

static void apply(struct store *store, struct step *steps, uint64_t count, bool atomic, struct reply *reply) {
    uint64_t applied = 0;
    int64_t now = now_in_millis();
    size_t begun = begin_many(&reply->head, MANY_ELEMENTS);
    for (uint64_t i = 0; i < count; i++) {
        const struct refusal *refusal = mutate(store, &steps[i], now, &reply->head);
        if (refusal && atomic) {
            undo(store, steps, i);
            reset_reply(reply);
            write_refusal(&reply->head, refusal, &steps[i].wanted.at, (int64_t)i);
            return;
        }
        if (refusal) write_refusal(&reply->head, refusal, &steps[i].wanted.at, -1);
        else applied++;
    }
    end_many(&reply->head, begun, count);
    if (out_of_memory(reply)) undo(store, steps, count); /* What cannot be answered must not have happened. */
    else store->writes += applied;
}

/* Reads all mutations before the first is done: a malformed request changes nothing. */
static const struct refusal *write_batch(struct store *store, struct request *request, struct reply *reply) {
    struct reader from = argument(request->arguments, "mutations");
    struct text atomicity = text_argument(request, "atomicity");
    uint64_t count = read_kind(&from, ARRAY);
    bool known = is(atomicity, "atomic") || is(atomicity, "independent");
    if (from.failed || !known || count > (uint64_t)(from.end - from.at)) return &MALFORMED;
    struct step *steps = calloc(count + 1, sizeof *steps);
    const struct refusal *refusal = steps ? NULL : &NO_MEMORY;
    for (uint64_t i = 0; i < count && !refusal; i++) {
        refusal = read_mutation(from, request, &steps[i].wanted);
        skip(&from);
    }
    if (!refusal) apply(store, steps, count, is(atomicity, "atomic"), reply);
    for (uint64_t i = 0; i < count && !refusal; i++) free_record(steps[i].before);
    free(steps);
    return refusal;
}

/* `scan`, and `keys`, which leaves the rest of the records out. */
static const struct refusal *page(struct store *store, struct request *request, struct reply *reply) {
    struct text collection = text_argument(request, "collection"), prefix = text_argument(request, "prefix");
    struct text after = text_argument(request, "after"), from = prefix, last = {"", 0};
    struct reader limit_from = argument(request->arguments, "limit");
    uint64_t limit = read_kind(&limit_from, POSITIVE), count = 0;
    int64_t now = now_in_millis();
    char bytes[MAX_KEY_BYTES];
    if (limit == 0) return &MALFORMED;
    if (after.len > 0 && !read_cursor(after, collection, prefix, bytes, &from)) return &BAD_CURSOR;
    bool found, more = false, whole = is(request->operation, "scan");
    size_t place = place_of(store, (struct address){collection, from}, &found);
    write_map(&reply->head, 2);
    write_word(&reply->head, "items");
    size_t begun = begin_many(&reply->head, MANY_ELEMENTS);
    for (place += found && after.len > 0; place < store->count && !more; place++) {
        const struct record *record = store->records[place];
        struct text key = record->at.key;
        if (!same(record->at.collection, collection) || key.len < prefix.len) break;
        if (!same((struct text){key.bytes, prefix.len}, prefix)) break;
        if (has_expired(record->expires, now)) continue;
        more = count == limit;
        if (more) break;
        if (whole) write_record(reply, record);
        else write_text(&reply->head, key);
        last = key;
        count++;
    }
    end_many(&reply->head, begun, count);
    write_word(&reply->head, "next");
    if (more) write_cursor(&reply->head, collection, prefix, last);
    else write_nil(&reply->head);
    return NULL;
}

static const struct refusal *count(struct store *store, struct request *request, struct reply *reply) {
    struct text collection = text_argument(request, "collection");
    uint64_t count = 0;
    int64_t now = now_in_millis();
    if (!is_nil(argument(request->arguments, "filter"))) return &UNSUPPORTED;
    for (size_t i = first_of(store, collection); i < store->count; i++) {
        if (!same(store->records[i]->at.collection, collection)) break;
        count += !has_expired(store->records[i]->expires, now);
    }
    write_unsigned(&reply->head, count);
    return NULL;
}

static const struct refusal *collections(struct store *store, struct request *request, struct reply *reply) {
    (void)request;
    uint64_t count = 0;
    size_t begun = begin_many(&reply->head, MANY_ELEMENTS);
    for (size_t i = 0; i < store->count; i++) {
        struct text collection = store->records[i]->at.collection;
        if (i > 0 && same(collection, store->records[i - 1]->at.collection)) continue;
        write_text(&reply->head, collection);
        count++;
    }
    end_many(&reply->head, begun, count);
    return NULL;
}

/* Runs on the worker: freeing many records takes longer than the caller's thread may be held. */
static const struct refusal *clear(struct store *store, struct request *request, struct reply *reply) {
    struct text collection = text_argument(request, "collection");
    uint64_t live = 0;
    size_t removed = CLEAR_STEP;
    while (removed == CLEAR_STEP && !request->arguments.failed) {
        const struct refusal *refusal = atomic_load(request->cancelled) ? &CANCELLED : enter_store(store);
        if (refusal) return refusal;
        removed = remove_records(store, first_of(store, collection), CLEAR_STEP, &collection, &live);
        leave_store(store);
    }
    write_unsigned(&reply->head, live);
    return NULL;
}

static const struct refusal *health(struct store *store, struct request *request, struct reply *reply) {
    (void)store, (void)request;
    write_map(&reply->head, 3);
    write_word_at(&reply->head, "status", "up");
    write_unsigned_at(&reply->head, "latency_us", 0);
    write_word_at(&reply->head, "detail", "in memory");
    return NULL;
}

static const struct refusal *stats(struct store *store, struct request *request, struct reply *reply) {
    (void)request;
    write_map(&reply->head, 3);
    write_unsigned_at(&reply->head, "reads", store->reads);
    write_unsigned_at(&reply->head, "writes", store->writes);
    write_unsigned_at(&reply->head, "records", store->count);
    return NULL;
}

/* Closes it, if it is still open. */
static const struct refusal *close_store(struct store *store, struct request *request, struct reply *reply) {
    (void)request;
    uint64_t live = 0;
    pthread_mutex_lock(&store->lock);
    store->closed = true;
    remove_records(store, 0, SIZE_MAX, NULL, &live);
    pthread_mutex_unlock(&store->lock);
    write_nil(&reply->head);
    return NULL;
}

/* ---- The type, and what the host sees. ---- */

static const storage_host *host; /* Set once, by `init`, before anything else is called. */

static void log_event(uint32_t level, const char *message) {
    if (host->log_level(host->context) < level) return;
    storage_slice target = {(const uint8_t *)NAME, strlen(NAME)}, text = {(const uint8_t *)message, strlen(message)};
    host->log(host->context, level, target, text, (storage_slice){NULL, 0});
}

static void write_capabilities(struct buffer *to) {
    static const char *const features[] = {"get", "put", "preconditions", "expiry", "atomic", "scan", "ordered_scan",
                                           "count", "collections", "clear", "bytes", "counters"};
    write_map(to, 2);
    write_word(to, "features");
    write_map(to, sizeof features / sizeof *features);
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        write_word(to, features[i]);
        write_bool(to, true);
    }
    write_word_at(to, "atomic_scope", "store");
}

static const struct refusal *config_from_url(struct store *none, struct request *request, struct reply *reply) {
    (void)none;
    struct text url = text_argument(request, "url");
    if (!is(url, NAME ":") && !is(url, NAME "://")) return &BAD_URL;
    write_blob(reply, "{}", 2, (struct keeper){NULL, NULL});
    return NULL;
}

/* The configuration has to be an object without keys. */
static const struct refusal *validate(struct store *none, struct request *request, struct reply *reply) {
    (void)none;
    struct reader from = argument(request->arguments, "config");
    storage_slice config;
    char found[3] = {0};
    if (!read_blob(&from, request, &config)) return &MALFORMED;
    for (size_t i = 0, kept = 0; i < config.len && kept < sizeof found; i++) {
        if (!memchr(" \t\r\n", config.data[i], 4)) found[kept++] = (char)config.data[i];
    }
    write_nil(&reply->head);
    return memcmp(found, "{}", sizeof found) == 0 ? NULL : &BAD_CONFIG;
}

static const struct refusal *open_store(struct store *none, struct request *request, struct reply *reply) {
    size_t begun = reply->head.len;
    const struct refusal *refusal = validate(none, request, reply);
    struct store *store = refusal ? NULL : calloc(1, sizeof *store);
    if (!store) return refusal ? refusal : &NO_MEMORY;
    if (!make_room(store)) {
        free(store);
        return &NO_MEMORY;
    }
    atomic_init(&store->references, 1);
    pthread_mutex_init(&store->lock, NULL);
    reply->head.len = begun;
    write_map(&reply->head, 5);
    write_unsigned_at(&reply->head, "store", (uintptr_t)store);
    write_word_at(&reply->head, "name", NAME);
    write_word_at(&reply->head, "version", VERSION);
    write_word_at(&reply->head, "location", NAME ":");
    write_word(&reply->head, "capabilities");
    write_capabilities(&reply->head);
    if (out_of_memory(reply)) release_store(store); /* The host will never hear of it. */
    else log_event(STORAGE_LOG_DEBUG, "a store was opened");
    return NULL;
}

static const struct operation OPERATIONS[] = {
    {"config_from_url", OF_TYPE, config_from_url}, {"validate", OF_TYPE, validate}, {"open", OF_TYPE, open_store},
    {"get", LOCKED, get}, {"write", LOCKED, write_batch}, {"scan", LOCKED, page}, {"keys", LOCKED, page},
    {"count", LOCKED, count}, {"collections", LOCKED, collections}, {"clear", ON_WORKER, clear},
    {"health", LOCKED, health}, {"stats", LOCKED, stats}, {"close", UNLOCKED, close_store}, {NULL, OF_TYPE, NULL},
};

static const struct refusal *describe(struct store *none, struct request *request, struct reply *reply) {
    (void)none, (void)request;
    struct buffer *head = &reply->head;
    write_map(head, 6);
    write_word_at(head, "name", NAME);
    write_word_at(head, "version", VERSION);
    write_word_at(head, "summary", "This process's memory, by a plugin in C: nothing is kept; an example");
    write_word(head, "schemes");
    write_array(head, 1);
    write_word(head, NAME);
    write_word(head, "capabilities");
    write_capabilities(head);
    write_word_at(head, "config_schema", "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}");
    return NULL;
}

static int32_t init(const storage_host *given, storage_message *reply) {
    static const struct operation operation = {"init", OF_TYPE, describe};
    struct request none = {.cancelled = NULL};
    host = given;
    answer(&operation, NULL, &none, NULL, reply);
    return STORAGE_READY;
}

static int32_t call(uint64_t store, const storage_message *message, storage_done done, void *token, uint64_t *call,
                    storage_message *reply) {
    return call_operation(OPERATIONS, (struct store *)(uintptr_t)store, message, done, token, call, reply);
}

static void store_free(uint64_t store) { release_store((struct store *)(uintptr_t)store); }

static const storage_functions FUNCTIONS = {
    .struct_size = sizeof(storage_functions), .init = init, .call = call, .cancel = cancel_task,
    .call_free = free_task, .store_free = store_free, .shutdown = stop_worker,
};

static const storage_descriptor DESCRIPTOR = {
    .magic = STORAGE_PLUGIN_MAGIC, .struct_size = sizeof(storage_descriptor), .abi_major = STORAGE_PLUGIN_ABI_MAJOR,
    .abi_minor = STORAGE_PLUGIN_ABI_MINOR, .name = NAME, .version = VERSION, .build = BUILD, .functions = &FUNCTIONS,
};

STORAGE_PLUGIN_NOTE(NAME, VERSION, BUILD);

const storage_descriptor *storage_plugin_entry(void) { return &DESCRIPTOR; }
