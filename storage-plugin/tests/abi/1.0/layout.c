/*
 * Prints what ABI 1.0 fixes: constants, where each field is, and the sizes of the structs that never grow. Frozen
 * with ABI 1.0, as is storage_plugin.h beside it: every later header of major 1 has to print the same.
 */
#include <stdio.h>

/* Not in quotation marks: it is compiled with other headers than the one beside it. */
#include <storage_plugin.h>

#define PRINT(expression) printf("%s = %llu\n", #expression, (unsigned long long)(expression))
#define FIELD(type, field) PRINT(offsetof(type, field)), PRINT(sizeof(((type *)0)->field))

int main(void) {
    PRINT(STORAGE_PLUGIN_MAGIC);
    PRINT(STORAGE_PLUGIN_ABI_MAJOR);
    PRINT(STORAGE_READY);
    PRINT(STORAGE_PENDING);
    PRINT(STORAGE_LOG_ERROR);
    PRINT(STORAGE_LOG_WARN);
    PRINT(STORAGE_LOG_INFO);
    PRINT(STORAGE_LOG_DEBUG);
    PRINT(STORAGE_LOG_TRACE);
    PRINT(STORAGE_PLUGIN_NOTE_TYPE);
    puts(STORAGE_PLUGIN_NOTE_NAME " " STORAGE_PLUGIN_NOTE_SECTION);

    PRINT(sizeof(storage_slice));
    FIELD(storage_slice, data);
    FIELD(storage_slice, len);

    PRINT(sizeof(storage_message));
    FIELD(storage_message, head);
    FIELD(storage_message, head_len);
    FIELD(storage_message, blobs);
    FIELD(storage_message, blob_count);
    FIELD(storage_message, owner);
    FIELD(storage_message, release);

    FIELD(storage_host, struct_size);
    FIELD(storage_host, abi_major);
    FIELD(storage_host, abi_minor);
    FIELD(storage_host, context);
    FIELD(storage_host, log_level);
    FIELD(storage_host, log);

    FIELD(storage_functions, struct_size);
    FIELD(storage_functions, reserved);
    FIELD(storage_functions, init);
    FIELD(storage_functions, call);
    FIELD(storage_functions, cancel);
    FIELD(storage_functions, call_free);
    FIELD(storage_functions, store_free);
    FIELD(storage_functions, shutdown);

    FIELD(storage_descriptor, magic);
    FIELD(storage_descriptor, struct_size);
    FIELD(storage_descriptor, abi_major);
    FIELD(storage_descriptor, abi_minor);
    FIELD(storage_descriptor, name);
    FIELD(storage_descriptor, version);
    FIELD(storage_descriptor, build);
    FIELD(storage_descriptor, functions);
    return 0;
}
