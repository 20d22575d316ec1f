/* Checks, assertions, branch hints and the named hook points of the tests.
 *
 * Three tiers: GCH_CHECK is always on (a broken invariant that would lose an object), GCH_ASSERT is on unless
 * NDEBUG, GCH_EXPENSIVE only in GCH_VERIFY builds. A failed check prints file, line, condition and a message,
 * then aborts: it is never used for what the kernel or the host may answer.
 *
 * GCH_POINT(name) marks a transition that tests want to interleave. It is empty unless GCH_HOOKS is defined, and
 * then calls the function that a test stored in gch_hook_fn. The function may be called by any thread, inside
 * signal handlers too. */
#ifndef GCH_BASE_CHECK_H
#define GCH_BASE_CHECK_H

#define gch_likely(x) __builtin_expect(!!(x), 1)
#define gch_unlikely(x) __builtin_expect(!!(x), 0)

/* Prints and aborts. Async-signal-safe: formats on the stack, writes to standard error with write(2). */
_Noreturn void gch_check_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

#define GCH_CHECK(cond, ...) (gch_likely(cond) ? (void)0 : gch_check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__))

#ifndef NDEBUG
#define GCH_ASSERT(cond) GCH_CHECK(cond, "%s", "assertion")
#else
#define GCH_ASSERT(cond) ((void)sizeof(!!(cond)))
#endif

#ifdef GCH_VERIFY
#define GCH_EXPENSIVE(cond) GCH_CHECK(cond, "%s", "expensive assertion")
#else
#define GCH_EXPENSIVE(cond) ((void)sizeof(!!(cond)))
#endif

typedef void gch_hook(const char *name);
extern gch_hook *gch_hook_fn; /* [atomic acq/rel] set by tests, NULL otherwise */
void gch_hook_run(const char *name);

#ifdef GCH_HOOKS
#define GCH_POINT(name) gch_hook_run(#name)
#else
#define GCH_POINT(name) ((void)0)
#endif

#endif
