/*
 * A plugin as it was built for ABI 1.0, frozen with it: every later host of major 1 has to load it. Its messages are
 * spelt out byte by byte, so that they stay what they were. Macros make the variants that a host has to refuse, and
 * those of later minors that it has to take:
 *
 *   MAGIC, MAJOR, MINOR, NAME_TEXT, VERSION_TEXT    what the descriptor says
 *   DESCRIPTOR_SIZE, FUNCTIONS_SIZE                 the struct_size of each
 *   APPENDED                                        both structs go on after what 1.0 has, and their sizes say so
 *   WITHOUT                                         the function of the table that is NULL
 *   NO_FUNCTIONS, NO_DESCRIPTOR                     the pointer is NULL
 *   NO_ENTRY                                        the entry has another name, and is not exported
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "storage_plugin.h"

#ifndef MAGIC
#define MAGIC STORAGE_PLUGIN_MAGIC
#endif
#ifndef MAJOR
#define MAJOR 1
#endif
#ifndef MINOR
#define MINOR 0
#endif
#ifndef NAME_TEXT
#define NAME_TEXT "fixture"
#endif
#ifndef VERSION_TEXT
#define VERSION_TEXT "1.0.0"
#endif

/* The answers, in MessagePack. Each has the bytes of DATA as its one blob, where it refers to one. */
static const char DATA[] = "{}";

static const struct answer {
    const char *operation, *head;
    size_t head_len;
} ANSWERS[] = {
#define ANSWER(operation, head) {operation, head, sizeof(head) - 1}
    ANSWER("init", "\x92" "\xa2" "ok" "\x86" "\xa4" "name" "\xa7" "fixture" "\xa7" "version" "\xa5" "1.0.0"
           "\xa7" "summary" "\xa9" "A fixture" "\xa7" "schemes" "\x91" "\xa7" "fixture"
           "\xac" "capabilities" "\x81" "\xa8" "features" "\x82" "\xa3" "get" "\xc3" "\xa5" "bytes" "\xc3"
           "\xad" "config_schema" "\xd9\x2e" "{\"type\":\"object\",\"additionalProperties\":false}"),
    ANSWER("config_from_url", "\x92" "\xa2" "ok" "\x00"),
    ANSWER("validate", "\x92" "\xa2" "ok" "\xc0"),
    ANSWER("open", "\x92" "\xa2" "ok" "\x85" "\xa5" "store" "\x07" "\xa4" "name" "\xa7" "fixture"
           "\xa7" "version" "\xa5" "1.0.0" "\xa8" "location" "\xa8" "fixture:"
           "\xac" "capabilities" "\x81" "\xa8" "features" "\x82" "\xa3" "get" "\xc3" "\xa5" "bytes" "\xc3"),
    ANSWER("get", "\x92" "\xa2" "ok" "\x91" "\x85" "\xa2" "at" "\x92" "\xa1" "c" "\xa1" "k"
           "\xa5" "value" "\x93" "\xa5" "bytes" "\xaa" "text/plain" "\x00" "\xa7" "version" "\xa1" "1"
           "\xa7" "created" "\xcd\x03\xe8" "\xa7" "updated" "\xcd\x07\xd0"),
    ANSWER("health", "\x92" "\xa2" "ok" "\x83" "\xa6" "status" "\xa2" "up" "\xaa" "latency_us" "\x00"
           "\xa6" "detail" "\xa7" "fixture"),
    ANSWER("close", "\x92" "\xa2" "ok" "\xc0"),
    ANSWER("", "\x92" "\xa5" "error" "\x82" "\xa4" "kind" "\xab" "unsupported"
           "\xa7" "message" "\xd9\x21" "the fixture has no such operation"),
};

static void answer(const char *operation, size_t len, storage_message *reply) {
    static const storage_slice blob = {(const uint8_t *)DATA, sizeof DATA - 1};
    const struct answer *found = ANSWERS;
    while (*found->operation && (strlen(found->operation) != len || memcmp(found->operation, operation, len))) found++;
    *reply = (storage_message){(const uint8_t *)found->head, found->head_len, &blob, 1, NULL, NULL};
}

static int32_t init(const storage_host *host, storage_message *reply) {
    static const char target[] = "fixture", message[] = "init was called";
    if (host->struct_size < sizeof *host || host->abi_major != 1) abort();
    if (host->log_level(host->context) >= STORAGE_LOG_INFO) {
        host->log(host->context, STORAGE_LOG_INFO, (storage_slice){(const uint8_t *)target, sizeof target - 1},
                  (storage_slice){(const uint8_t *)message, sizeof message - 1}, (storage_slice){NULL, 0});
    }
    answer("init", 4, reply);
    return STORAGE_READY;
}

struct pending {
    storage_done done;
    void *token;
};

/* `health` is answered on a thread, all else at once. */
static void *complete(void *argument) {
    struct pending *pending = argument;
    storage_message reply;
    answer("health", 6, &reply);
    pending->done(pending->token, &reply);
    return NULL;
}

/* A request begins with an array of two, and the operation as text of at most 31 bytes. */
static int32_t call(uint64_t store, const storage_message *request, storage_done done, void *token, uint64_t *call,
                    storage_message *reply) {
    pthread_t thread;
    char operation[32] = {0};
    size_t len = request->head_len > 1 ? request->head[1] & 0x1f : 0;
    if (len + 2 <= request->head_len) memcpy(operation, request->head + 2, len);
    if (request->release) request->release(request->owner);
    if (store != 0 && store != 7) abort();
    if (strcmp(operation, "health") == 0) {
        struct pending *pending = malloc(sizeof *pending);
        if (!pending) abort();
        *pending = (struct pending){done, token};
        *call = (uintptr_t)pending;
        if (pthread_create(&thread, NULL, complete, pending) != 0) abort();
        pthread_detach(thread);
        return STORAGE_PENDING;
    }
    answer(operation, strlen(operation), reply);
    return STORAGE_READY;
}

static void call_free(uint64_t call) {
    free((struct pending *)(uintptr_t)call);
}

static void ignore(uint64_t number) {
    (void)number;
}

static void shut_down(void) {
}

/* As a later minor would append them: the host has to leave them alone. */
struct later_functions {
    storage_functions known;
    void (*unknown)(void);
};

struct later_descriptor {
    storage_descriptor known;
    const void *unknown[4];
};

#ifdef APPENDED
#define SIZE_OF_FUNCTIONS sizeof(struct later_functions)
#define SIZE_OF_DESCRIPTOR sizeof(struct later_descriptor)
#else
#define SIZE_OF_FUNCTIONS sizeof(storage_functions)
#define SIZE_OF_DESCRIPTOR sizeof(storage_descriptor)
#endif
#ifndef FUNCTIONS_SIZE
#define FUNCTIONS_SIZE SIZE_OF_FUNCTIONS
#endif
#ifndef DESCRIPTOR_SIZE
#define DESCRIPTOR_SIZE SIZE_OF_DESCRIPTOR
#endif

static struct later_functions FUNCTIONS = {
    {FUNCTIONS_SIZE, 0, init, call, ignore, call_free, ignore, shut_down}, NULL};

static struct later_descriptor DESCRIPTOR = {
    {MAGIC, DESCRIPTOR_SIZE, MAJOR, MINOR, NAME_TEXT, VERSION_TEXT, "fixture of ABI 1.0", &FUNCTIONS.known},
    {NULL, NULL, NULL, NULL}};

STORAGE_PLUGIN_NOTE("fixture", "1.0.0", "fixture of ABI 1.0");

#ifdef NO_ENTRY
#define storage_plugin_entry another_entry
#endif
const storage_descriptor *storage_plugin_entry(void) {
#ifdef WITHOUT
    FUNCTIONS.known.WITHOUT = NULL;
#endif
#ifdef NO_FUNCTIONS
    DESCRIPTOR.known.functions = NULL;
#endif
#ifdef NO_DESCRIPTOR
    return NULL;
#endif
    return &DESCRIPTOR.known;
}
