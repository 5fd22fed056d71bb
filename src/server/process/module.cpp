// The library's entry point.

#include "server/base/prelude.hpp"

#include "server/base/settings.hpp"
#include "server/coordination/shared.hpp"
#include "server/ledger/installation.hpp"
#include "server/process/launcher.hpp"

extern "C" {
JOB_ALERTING_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

extern "C" void _PG_init(void) {
    using namespace job_alerting::server;

    define_settings();
    // Without preloading there is no launcher; run_digest() still works.
    if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
        return;
    note_restoring();
    shared::request();
    register_launcher();
}
