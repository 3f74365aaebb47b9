/*
 * A storage type that opens stores which do nothing, and that misbehaves as its macros say. NAME, VERSION and BUILD are
 * string literals.
 */
#include "storage_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DESCRIPTOR_MAGIC
#define DESCRIPTOR_MAGIC STORAGE_PLUGIN_MAGIC
#endif
#ifndef DESCRIPTOR_MAJOR
#define DESCRIPTOR_MAJOR STORAGE_PLUGIN_ABI_MAJOR
#endif
#ifndef DESCRIPTOR_VERSION
#define DESCRIPTOR_VERSION VERSION
#endif

STORAGE_PLUGIN_NOTE(NAME, VERSION, BUILD);

/* MessagePack, in a buffer that is never full. */
struct text {
    size_t len;
    uint8_t bytes[1024];
};

static void byte(struct text *to, int value) { to->bytes[to->len++] = (uint8_t)value; }

static void string(struct text *to, const char *value) {
    size_t len = strlen(value);
    byte(to, 0xd9);
    byte(to, (int)len);
    memcpy(to->bytes + to->len, value, len);
    to->len += len;
}

static void array(struct text *to, int len) { byte(to, 0x90 | len); }
static void map(struct text *to, int len) { byte(to, 0x80 | len); }

static void entry(struct text *to, const char *key, const char *value) {
    string(to, key);
    string(to, value);
}

static void capabilities(struct text *to) {
    string(to, "capabilities");
    map(to, 1);
    string(to, "features");
    map(to, 1);
    string(to, "get");
    byte(to, 0xc3);
}

static struct text *ok(void) {
    struct text *text = calloc(1, sizeof *text);
    array(text, 2);
    string(text, "ok");
    return text;
}

static struct text *error(const char *message, int panicked) {
    struct text *text = calloc(1, sizeof *text);
    array(text, 2);
    string(text, "error");
    map(text, 3);
    entry(text, "kind", "internal");
    entry(text, "message", message);
    string(text, "panicked");
    byte(text, panicked ? 0xc3 : 0xc2);
    return text;
}

static const storage_slice NO_KEYS = {(const uint8_t *)"{}", 2};

static int32_t ready(struct text *text, storage_message *reply) {
    reply->head = text->bytes;
    reply->head_len = text->len;
    reply->blobs = &NO_KEYS;
    reply->blob_count = 1;
    reply->owner = text;
    reply->release = free;
    return STORAGE_READY;
}

static const char *version(void) {
#ifdef LIES_IN_EARNEST
    /* Not in the trial. */
    if (!getenv("STORAGE_PLUGIN_TRIAL")) return "9.9.9";
#endif
    return DESCRIPTOR_VERSION;
}

static int32_t init(const storage_host *host, storage_message *reply) {
    (void)host;
#ifdef INIT_HANGS
    sleep(600);
#endif
#ifdef INIT_ABORTS
    abort();
#endif
#ifdef INIT_FAILS
    return ready(error("the licence has run out", 0), reply);
#endif
#ifdef INIT_PRINTS
    printf("storage-plugin-trial {}\nhello\nhello");
#endif
    struct text *text = ok();
    map(text, 6);
    entry(text, "name", NAME);
    entry(text, "version", version());
    entry(text, "summary", "a type for tests");
    string(text, "schemes");
    array(text, 1);
    string(text, NAME);
    capabilities(text);
    entry(text, "config_schema", "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}");
    return ready(text, reply);
}

static int32_t call(uint64_t store, const storage_message *request, storage_done done, void *token, uint64_t *id,
                    storage_message *reply) {
    (void)store, (void)done, (void)token, (void)id;
    /* An array of two, whose first is a short string. */
    char operation[32] = {0};
    memcpy(operation, request->head + 2, request->head[1] & 0x1f);
    if (request->release) request->release(request->owner);
    struct text *text;
    if (strcmp(operation, "config_from_url") == 0) {
        text = ok();
        byte(text, 0);
    } else if (strcmp(operation, "open") == 0) {
#ifdef OPEN_ABORTS
        abort();
#endif
#ifdef OPEN_PANICS
        return ready(error("panicked", 1), reply);
#endif
#ifdef OPEN_PENDS
        *id = 1;
        return STORAGE_PENDING;
#endif
        text = ok();
        map(text, 5);
        string(text, "store");
        byte(text, 1);
        entry(text, "name", NAME);
        entry(text, "version", VERSION);
        entry(text, "location", NAME ":");
        capabilities(text);
    } else if (strcmp(operation, "validate") == 0 || strcmp(operation, "close") == 0) {
        text = ok();
        byte(text, 0xc0);
    } else {
        text = error("it does nothing", 0);
    }
    return ready(text, reply);
}

static void ignore(uint64_t id) { (void)id; }
static void stop(void) {}

#ifdef NULL_FUNCTION
#define CANCEL NULL
#else
#define CANCEL ignore
#endif

static const storage_functions FUNCTIONS = {sizeof FUNCTIONS, 0, init, call, CANCEL, ignore, ignore, stop};
static const storage_descriptor DESCRIPTOR = {
    DESCRIPTOR_MAGIC, sizeof DESCRIPTOR, DESCRIPTOR_MAJOR, 0, NAME, DESCRIPTOR_VERSION, BUILD,
#ifdef NULL_FUNCTIONS
    NULL,
#else
    &FUNCTIONS,
#endif
};

#ifdef CONSTRUCTOR_ABORTS
__attribute__((constructor)) static void constructor(void) {
    fprintf(stderr, "no use\n");
    abort();
}
#endif

#ifdef ABORTS_IN_EARNEST
/* It gets through the trial. */
__attribute__((constructor)) static void constructor(void) {
    if (!getenv("STORAGE_PLUGIN_TRIAL")) abort();
}
#endif

#ifndef NO_ENTRY
STORAGE_PLUGIN_EXPORT const storage_descriptor *storage_plugin_entry(void) {
#ifdef NULL_DESCRIPTOR
    return NULL;
#endif
    static storage_descriptor said;
    said = DESCRIPTOR;
    said.version = version();
    return &said;
}
#endif
