/*
 * Sends requests to a plugin that is linked in: those of a file as they are, then damaged in many ways. Meant for a
 * build with sanitizers, which see what must not happen: a byte read outside a message, a leak, a double release.
 *
 *     malformed FILE ROUNDS
 *
 * FILE holds requests, each as the sizes of its head and its blobs and then their bytes: a 32-bit number of blobs,
 * one 32-bit size for the head and one for each blob, in the machine's byte order. Every part is sent in an allocation
 * of just its size.
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage_plugin.h"

#define MAX_BLOBS 64
#define MAX_REQUESTS 256

struct part {
    uint8_t *data;
    uint32_t len;
};

struct request {
    uint32_t blob_count;
    struct part head, blobs[MAX_BLOBS];
};

/* What is sent: parts, and how often they were released. */
struct sent {
    uint8_t *head;
    storage_slice *blobs;
    size_t blob_count;
};

static const storage_functions *functions;
static size_t released, sent_count, completed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void *copy(const void *data, size_t len) {
    void *bytes = malloc(len);
    if (len > 0 && !bytes) fail("no memory");
    if (len > 0) memcpy(bytes, data, len);
    return bytes;
}

static void release(void *owner) {
    struct sent *sent = owner;
    for (size_t i = 0; i < sent->blob_count; i++) free((void *)(uintptr_t)sent->blobs[i].data);
    free(sent->blobs);
    free(sent->head);
    free(sent);
    pthread_mutex_lock(&lock);
    released++;
    pthread_mutex_unlock(&lock);
}

/* Reads every byte of a reply, so that the sanitizer checks that it may be read, and releases it. */
static uint64_t read_reply(const storage_message *reply) {
    volatile uint8_t sum = 0;
    uint64_t store = 0;
    if (reply->head_len == 0 || (reply->head[0] != 0x92)) fail("a reply is not an array of two");
    bool ok = reply->head_len > 4 && memcmp(reply->head + 1, "\xa2ok", 3) == 0;
    if (!ok && (reply->head_len < 7 || memcmp(reply->head + 1, "\xa5" "error", 6) != 0)) fail("neither ok nor error");
    for (size_t i = 0; i < reply->head_len; i++) sum ^= reply->head[i];
    for (size_t b = 0; b < reply->blob_count; b++) {
        for (size_t i = 0; i < reply->blobs[b].len; i++) sum ^= reply->blobs[b].data[i];
    }
    /* The answer to `open` begins with the store's number: ok, a map of five, "store", 64 bits. */
    if (ok && reply->head_len > 20 && memcmp(reply->head + 4, "\x85\xa5store\xcf", 8) == 0) {
        for (int i = 0; i < 8; i++) store = store << 8 | reply->head[12 + i];
    }
    if (reply->release) reply->release(reply->owner);
    return store;
}

static void done(void *token, const storage_message *reply) {
    if (token != &completed) fail("done with another token");
    read_reply(reply);
    pthread_mutex_lock(&lock);
    completed++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static uint32_t below(uint32_t limit) {
    static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % limit;
}

/* Calls the plugin, and waits for a pending call, of which every second is cancelled. */
static uint64_t send(uint64_t store, const struct request *request, bool damage) {
    struct sent *sent = malloc(sizeof *sent);
    if (!sent) fail("no memory");
    uint32_t head_len = request->head.len, blob_count = request->blob_count;
    if (damage && below(4) == 0 && head_len > 0) head_len = below(head_len);
    if (damage && below(8) == 0 && blob_count > 0) blob_count--;
    *sent = (struct sent){copy(request->head.data, head_len), malloc(blob_count * sizeof(storage_slice)), blob_count};
    for (uint32_t i = 0; i < blob_count; i++) {
        sent->blobs[i] = (storage_slice){copy(request->blobs[i].data, request->blobs[i].len), request->blobs[i].len};
    }
    static const uint8_t nasty[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6, 0xc9,
                                    0xcb, 0xcf, 0xd3, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff};
    for (uint32_t hits = damage && head_len > 0 ? below(4) : 0; hits > 0; hits--) {
        sent->head[below(head_len)] = below(2) ? nasty[below(sizeof nasty)] : (uint8_t)below(256);
    }
    storage_message message = {sent->head, head_len, sent->blobs, blob_count, sent, release}, reply;
    uint64_t call = 0;
    size_t before = completed;
    sent_count++;
    int32_t code = functions->call(store, &message, done, &completed, &call, &reply);
    if (code == STORAGE_READY) return read_reply(&reply);
    if (code != STORAGE_PENDING || call == 0) fail("a call returned neither ready nor pending");
    if (below(2)) functions->cancel(call);
    pthread_mutex_lock(&lock);
    while (completed == before) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    functions->call_free(call);
    return 0;
}

static void read_exactly(FILE *file, void *to, size_t len) {
    if (len > 0 && fread(to, len, 1, file) != 1) fail("the file of requests is cut short");
}

static uint32_t log_level(void *context) {
    (void)context;
    return STORAGE_LOG_TRACE;
}

static void log_event(void *context, uint32_t level, storage_slice target, storage_slice message, storage_slice fields) {
    (void)context, (void)level;
    if (target.len == 0 || message.len == 0 || (fields.len > 0 && !fields.data)) fail("an event without text");
}

int main(int count, char **arguments) {
    static struct request requests[MAX_REQUESTS];
    static const storage_host host = {sizeof host, 1, 0, NULL, log_level, log_event};
    static const uint8_t opening[] = "\x92\xa4open\x81\xa6" "config\x00";
    static const uint8_t closing[] = "\x92\xa5" "close\x80";
    static uint8_t config[] = "{}";
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (!file) fail("usage: malformed FILE ROUNDS");
    size_t known = 0;
    for (; known < MAX_REQUESTS && fread(&requests[known].blob_count, sizeof(uint32_t), 1, file) == 1; known++) {
        struct request *request = &requests[known];
        if (request->blob_count > MAX_BLOBS) fail("too many blobs");
        read_exactly(file, &request->head.len, sizeof(uint32_t));
        for (uint32_t i = 0; i < request->blob_count; i++) read_exactly(file, &request->blobs[i].len, sizeof(uint32_t));
        request->head.data = malloc(request->head.len + 1);
        read_exactly(file, request->head.data, request->head.len);
        for (uint32_t i = 0; i < request->blob_count; i++) {
            request->blobs[i].data = malloc(request->blobs[i].len + 1);
            read_exactly(file, request->blobs[i].data, request->blobs[i].len);
        }
    }
    fclose(file);

    storage_message reply;
    functions = storage_plugin_entry()->functions;
    if (functions->init(&host, &reply) != STORAGE_READY) fail("init is not ready");
    read_reply(&reply);
    struct request open = {1, {(uint8_t *)(uintptr_t)opening, sizeof opening - 1}, {{config, 2}}};
    struct request close = {0, {(uint8_t *)(uintptr_t)closing, sizeof closing - 1}, {{NULL, 0}}};
    uint64_t store = send(0, &open, false);
    if (store == 0) fail("no store was opened");
    for (size_t i = 0; i < known; i++) send(store, &requests[i], false);
    long rounds = atol(arguments[2]);
    for (long round = 0; round < rounds; round++) {
        /* Damage may spare a request to open: its store is freed, too. */
        uint64_t opened = send(below(16) ? store : 0, &requests[below((uint32_t)known)], true);
        if (opened != 0) functions->store_free(opened);
        if (below(1000) == 0) {
            if (below(2)) send(store, &close, false);
            functions->store_free(store);
            store = send(0, &open, false);
        }
    }
    functions->store_free(store);
    functions->shutdown();
    for (size_t i = 0; i < known; i++) {
        for (uint32_t b = 0; b < requests[i].blob_count; b++) free(requests[i].blobs[b].data);
        free(requests[i].head.data);
    }
    if (released != sent_count) fail("not every request was released exactly once");
    printf("%zu requests, %ld damaged\n", known, rounds);
    return 0;
}
