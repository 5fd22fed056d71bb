// The tables of the extension, for what a user's session may change in them. C regime.

#pragma once

#include "server/base/extension.hpp"

namespace job_alerting::server {

// Runs `work`, with SPI connected, as the extension's owner: its tables are nobody else's to write.
// An error when this database has no extension that the library knows.
template <typename Work> void as_extension(Work &&work) {
    const Extension extension = hold_extension();
    if (!OidIsValid(extension.oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("extension \"job_alerting\" does not exist in this database")));
    if (const char *fault = version_fault(extension))
        ereport(ERROR,
                (errcode(version_sqlstate), errmsg("%s", fault), errhint("%s", version_hint)));
    Oid user;
    int context;
    GetUserIdAndSecContext(&user, &context);
    const int nesting = NewGUCNestLevel();
    set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                      GUC_ACTION_SAVE, true, 0, false);
    // Values travel as text: times with an offset, never with an abbreviation that means another.
    set_config_option("datestyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    SetUserIdAndSecContext(extension.owner, context | SECURITY_LOCAL_USERID_CHANGE);
    SPI_connect();
    work();
    SPI_finish();
    SetUserIdAndSecContext(user, context);
    AtEOXact_GUC(false, nesting);
}

// Executes one statement in it. Parameters are texts, which the statement casts.
void execute(const char *statement, int count, Datum *values);

} // namespace job_alerting::server
