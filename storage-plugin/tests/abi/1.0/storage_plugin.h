/*
 * The C ABI of storage plugins, version 1.0.
 *
 * A plugin is a shared library that brings one storage type. It exports one symbol, storage_plugin_entry, and
 * carries an ELF note (STORAGE_PLUGIN_NOTE) that says the same without the library being loaded. What the
 * messages hold stands in docs/plugin-abi.md; how a plugin is written, in docs/writing-a-backend.md.
 *
 * Rules that hold for every function here:
 *   - It may be called on any thread, and on many at once.
 *   - It neither throws, unwinds nor jumps across the border.
 *   - Strings are UTF-8. A pointer with a length of 0 may be NULL.
 *   - The library is never unloaded: its code and statics live as long as the process.
 *
 * Compile plugins with -fvisibility=hidden.
 */
#ifndef STORAGE_PLUGIN_H
#define STORAGE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "STORPLUG", read as a big-endian number. */
#define STORAGE_PLUGIN_MAGIC UINT64_C(0x53544f52504c5547)
/* A host loads plugins of its own major; minors only ever append. */
#define STORAGE_PLUGIN_ABI_MAJOR 1
#define STORAGE_PLUGIN_ABI_MINOR 0

/* What `call` and `init` return. */
#define STORAGE_READY 0   /* `reply` is filled in; `done` will not be called. */
#define STORAGE_PENDING 1 /* `done` will be called, exactly once. Only from `call`. */

/* Levels of `log`. */
#define STORAGE_LOG_ERROR 1
#define STORAGE_LOG_WARN 2
#define STORAGE_LOG_INFO 3
#define STORAGE_LOG_DEBUG 4
#define STORAGE_LOG_TRACE 5

/* Bytes that belong to somebody else. */
typedef struct storage_slice {
    const uint8_t *data;
    size_t len;
} storage_slice;

/*
 * A message: a MessagePack head, and blobs that the head refers to by their position from 0.
 *
 * The struct is passed by pointer and copied by the receiver, who owns the message from then on: it reads it for
 * as long as it likes, on any thread, and then calls release(owner) exactly once, unless release is NULL.
 * This struct never changes within a major version.
 */
typedef struct storage_message {
    const uint8_t *head;
    size_t head_len;
    const storage_slice *blobs;
    size_t blob_count;
    void *owner;
    void (*release)(void *owner);
} storage_message;

/*
 * Completes a pending call. The plugin calls it exactly once for each call that returned STORAGE_PENDING, on any
 * thread, possibly before `call` has returned; also when the call was cancelled, its store freed, or the plugin
 * shut down. The host takes the reply over.
 */
typedef void (*storage_done)(void *token, const storage_message *reply);

/* What the host offers to the plugin. It lives as long as the process. New fields are appended. */
typedef struct storage_host {
    uint32_t struct_size; /* sizeof(storage_host) as the host was compiled. */
    uint16_t abi_major;
    uint16_t abi_minor;
    void *context; /* The first argument of the functions below. */
    /* The highest level that is of interest now; 0: none. Cheap enough to ask before each event. */
    uint32_t (*log_level)(void *context);
    /* Hands an event to the host's log. `fields` is a MessagePack map from strings to strings, or empty. The slices
     * are read before the function returns. */
    void (*log)(void *context, uint32_t level, storage_slice target, storage_slice message, storage_slice fields);
} storage_host;

/* What the plugin offers to the host. New functions are appended; none may be NULL. */
typedef struct storage_functions {
    uint32_t struct_size; /* sizeof(storage_functions) as the plugin was compiled. */
    uint32_t reserved;    /* 0. */

    /*
     * Called once, before any other function. Fills in a reply whose value is the description of the type, or an
     * error, and returns STORAGE_READY. Takes little time: it opens nothing and connects to nothing.
     */
    int32_t (*init)(const storage_host *host, storage_message *reply);

    /*
     * Does what the request asks. `store` is 0 for requests to the type itself (config_from_url, validate, open), else
     * a number that a reply to `open` gave.
     *
     * Takes the request over, in either case. Returns STORAGE_READY with `reply` filled in (then *call is not used
     * and `done` not called), or STORAGE_PENDING with *call set to a number other than 0 that stands for this call
     * until call_free. It returns at once: whatever waits is done on the plugin's own threads.
     */
    int32_t (*call)(uint64_t store, const storage_message *request, storage_done done, void *token, uint64_t *call,
                    storage_message *reply);

    /*
     * The host no longer wants the answer. The plugin stops the work where all or nothing of each atomic step is
     * done, and calls `done` soon (with the error `cancelled`, or with the answer if that was quicker). A call that is
     * done already is left alone.
     */
    void (*cancel)(uint64_t call);

    /* The host will not mention this call again. Called exactly once for each pending call, after `done`. */
    void (*call_free)(uint64_t call);

    /* The host will not mention this store again. Called exactly once for each store; it may not have been closed. */
    void (*store_free)(uint64_t store);

    /*
     * Called at most once, when the process ends in order. Closes what is open, completes every pending call, and ends
     * the plugin's threads. `done` is not called after it has returned. It returns within 5 seconds.
     */
    void (*shutdown)(void);
} storage_functions;

/* What the entry symbol returns. It is constant. New fields are appended. */
typedef struct storage_descriptor {
    uint64_t magic;       /* STORAGE_PLUGIN_MAGIC. */
    uint32_t struct_size; /* sizeof(storage_descriptor) as the plugin was compiled. */
    uint16_t abi_major;   /* STORAGE_PLUGIN_ABI_MAJOR. */
    uint16_t abi_minor;   /* STORAGE_PLUGIN_ABI_MINOR. */
    const char *name;     /* The type's name, [a-z][a-z0-9-]{0,31}. */
    const char *version;  /* The type's version, as semver. */
    const char *build;    /* What made it, such as "example 1.0.0 gcc 12.2"; for people. */
    const storage_functions *functions;
} storage_descriptor;

#if defined(__GNUC__)
#define STORAGE_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define STORAGE_PLUGIN_EXPORT
#endif

/* The one symbol that a plugin exports. */
STORAGE_PLUGIN_EXPORT const storage_descriptor *storage_plugin_entry(void);

/* The name, type and section of the ELF note. Its descriptor is text: lines of key=value, each ended by '\n'. */
#define STORAGE_PLUGIN_NOTE_NAME "storage"
#define STORAGE_PLUGIN_NOTE_TYPE 1
#define STORAGE_PLUGIN_NOTE_SECTION ".note.storage_plugin"

#define STORAGE_PLUGIN_STRING_(text) #text
#define STORAGE_PLUGIN_STRING(text) STORAGE_PLUGIN_STRING_(text)

/*
 * Writes the note; once, at file scope, with string literals that equal the descriptor's and have no quote or
 * backslash in them:
 *     STORAGE_PLUGIN_NOTE("example", "1.0.0", "example 1.0.0");
 * In assembly, because C++ has no array of characters without the NUL that the note must not have.
 */
#define STORAGE_PLUGIN_NOTE(name_, version_, build_)                                                                 \
    __asm__(".pushsection " STORAGE_PLUGIN_NOTE_SECTION ",\"a\",%note\n"                                             \
            ".balign 4\n"                                                                                            \
            ".long 2f - 1f, 4f - 3f, " STORAGE_PLUGIN_STRING(STORAGE_PLUGIN_NOTE_TYPE) "\n"                          \
            "1: .asciz \"" STORAGE_PLUGIN_NOTE_NAME "\"\n"                                                           \
            "2: .balign 4\n"                                                                                         \
            "3: .ascii \"abi=" STORAGE_PLUGIN_STRING(STORAGE_PLUGIN_ABI_MAJOR) "." STORAGE_PLUGIN_STRING(            \
                STORAGE_PLUGIN_ABI_MINOR) "\\nname=" name_ "\\nversion=" version_ "\\nbuild=" build_ "\\n\"\n"          \
            "4: .balign 4\n"                                                                                         \
            ".popsection")

#ifdef __cplusplus
}
#endif

#endif
