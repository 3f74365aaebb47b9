/*
 * Calls in C11: finding the operation, and answering at once, or pending on a thread of the plugin's own. Nothing here
 * is particular to one plugin: copy the file as it is, and include it in one source file.
 */
#ifndef CALLS_H
#define CALLS_H

#include <pthread.h>
#include <signal.h>

#include "message.h"

/* A store is the plugin's own. It has one reference by the host, and one by each pending call. */
struct store;
static void retain_store(struct store *store);
static void release_store(struct store *store);
static const struct refusal *enter_store(struct store *store); /* Locks it, unless it is closed. */
static void leave_store(struct store *store);

/* Operations of the type have no store; most others have it locked. Those that take long are left to the worker. */
enum place { OF_TYPE, LOCKED, UNLOCKED, ON_WORKER };

/* Writes the answer, or returns why there is none. */
typedef const struct refusal *run_operation(struct store *store, struct request *request, struct reply *reply);

struct operation {
    const char *name; /* NULL after the last one. */
    enum place place;
    run_operation *run;
};

/* A pending call. Its address is its number for the host, who owns it from `done` to `call_free`. */
struct task {
    const struct operation *operation;
    struct request request;
    struct store *store;
    storage_done done;
    void *token;
    atomic_bool cancelled;
    struct task *next;
};

static const struct refusal CANCELLED = {"cancelled", "the call was cancelled"};
static const struct refusal NO_THREAD = {"busy", "no thread could be started for this call"};
static const struct refusal SHUT_DOWN = {"closed", "the plugin has been shut down"};

static struct {
    pthread_mutex_t lock; /* Over everything below. */
    pthread_cond_t changed;
    pthread_t thread;
    bool started, stopping;
    struct task *first, *last, *current;
} worker = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline const struct refusal *run(const struct operation *operation, struct store *store,
                                        struct request *request, struct reply *reply) {
    if (!operation->name) return request->arguments.failed ? &MALFORMED : &UNSUPPORTED;
    if ((operation->place == OF_TYPE) != (store == NULL)) return &MALFORMED;
    const struct refusal *refusal = operation->place == LOCKED ? enter_store(store) : NULL;
    if (refusal) return refusal;
    refusal = operation->run(store, request, reply);
    if (operation->place == LOCKED) leave_store(store);
    return !refusal && request->arguments.failed ? &MALFORMED : refusal;
}

/* Answers a request, with `refusal` unless that is NULL, and lets go of it. */
static inline void answer(const struct operation *operation, struct store *store, struct request *request,
                          const struct refusal *refusal, storage_message *message) {
    struct reply *reply = calloc(1, sizeof *reply);
    if (reply) {
        write_array(&reply->head, 2);
        write_word(&reply->head, "ok");
        if (!refusal) refusal = run(operation, store, request, reply);
        if (refusal) {
            reset_reply(reply);
            write_refusal(&reply->head, refusal, NULL, -1);
        }
    }
    release_message(&request->message);
    send_reply(reply, message);
}

/* The thread: answers tasks in order, until there are none and the plugin is shut down. */
static inline void *work(void *unused) {
    pthread_mutex_lock(&worker.lock);
    for (;;) {
        struct task *task = worker.current = worker.first;
        if (!task && worker.stopping) break;
        if (!task) {
            pthread_cond_wait(&worker.changed, &worker.lock);
            continue;
        }
        worker.first = task->next;
        pthread_mutex_unlock(&worker.lock);
        storage_message reply;
        answer(task->operation, task->store, &task->request, NULL, &reply);
        release_store(task->store);
        pthread_mutex_lock(&worker.lock);
        worker.current = NULL;
        pthread_mutex_unlock(&worker.lock);
        task->done(task->token, &reply); /* From here on the task is the host's. */
        pthread_mutex_lock(&worker.lock);
    }
    pthread_mutex_unlock(&worker.lock);
    return unused;
}

/* Starts the thread. Signals are left to the threads of the host, whose handlers may not expect this one. */
static inline bool start_worker(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&worker.thread, NULL, work, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* Leaves a task to the thread, which the first one starts; or returns why not, with the task the caller's still. */
static inline const struct refusal *enqueue(struct task *task) {
    const struct refusal *refusal = NULL;
    pthread_mutex_lock(&worker.lock);
    if (worker.stopping) refusal = &SHUT_DOWN;
    else if (!worker.started && !(worker.started = start_worker())) refusal = &NO_THREAD;
    if (!refusal) {
        if (worker.first) worker.last->next = task;
        else worker.first = task;
        worker.last = task;
        pthread_cond_signal(&worker.changed);
    }
    pthread_mutex_unlock(&worker.lock);
    return refusal;
}

/* Makes a task of a request and leaves it to the thread; NULL, with *refusal set, if that cannot be. */
static inline struct task *defer(const struct operation *operation, struct store *store, const struct request *request,
                                 storage_done done, void *token, const struct refusal **refusal) {
    struct task *task = calloc(1, sizeof *task);
    *refusal = &NO_MEMORY;
    if (!task) return NULL;
    *task = (struct task){.operation = operation, .request = *request, .store = store, .done = done, .token = token};
    atomic_init(&task->cancelled, false);
    task->request.cancelled = &task->cancelled;
    retain_store(store);
    *refusal = enqueue(task);
    if (!*refusal) return task;
    release_store(store);
    free(task);
    return NULL;
}

/* The `call` of the function table, for operations that end with one without a name. */
static inline int32_t call_operation(const struct operation *operation, struct store *store,
                                     const storage_message *message, storage_done done, void *token, uint64_t *call,
                                     storage_message *reply) {
    const struct refusal *refusal = NULL;
    struct request request;
    take_request(message, &request);
    while (operation->name && !is(request.operation, operation->name)) operation++;
    if (operation->name && operation->place == ON_WORKER && store) {
        struct task *task = defer(operation, store, &request, done, token, &refusal);
        if (task) {
            *call = (uintptr_t)task;
            return STORAGE_PENDING;
        }
    }
    answer(operation, store, &request, refusal, reply);
    return STORAGE_READY;
}

/* The `cancel` of the function table. The task looks at its flag between two steps. */
static inline void cancel_task(uint64_t call) {
    atomic_store(&((struct task *)(uintptr_t)call)->cancelled, true);
}

/* The `call_free` of the function table. */
static inline void free_task(uint64_t call) {
    free((struct task *)(uintptr_t)call);
}

/* The `shutdown` of the function table: cancels all tasks, and returns when they are done and the thread has ended. */
static inline void stop_worker(void) {
    pthread_mutex_lock(&worker.lock);
    bool started = worker.started && !worker.stopping;
    worker.stopping = true;
    if (worker.current) atomic_store(&worker.current->cancelled, true);
    for (struct task *task = worker.first; task; task = task->next) atomic_store(&task->cancelled, true);
    pthread_cond_signal(&worker.changed);
    pthread_mutex_unlock(&worker.lock);
    if (started) pthread_join(worker.thread, NULL);
}

#endif
