/* A library that says it is a plugin; none of it is ever run. */
#include "storage_plugin.h"

#ifndef NOTE_NAME
#define NOTE_NAME "example"
#endif
#ifndef NOTE_VERSION
#define NOTE_VERSION "1.2.3"
#endif

#ifndef NO_NOTE
STORAGE_PLUGIN_NOTE(NOTE_NAME, NOTE_VERSION, "by hand");
#endif

#ifndef NO_ENTRY
STORAGE_PLUGIN_EXPORT const storage_descriptor *storage_plugin_entry(void) { return 0; }
#endif

/* Something of the C library, so that a version of it is needed. */
#include <stdio.h>
STORAGE_PLUGIN_EXPORT int needs_libc(void) { return puts("x"); }
