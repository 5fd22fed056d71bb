// Access to the extension's tables from a user's session. C regime.

#pragma once

#include "server/base/extension.hpp"
#include "server/base/statement.hpp"

namespace job_alerting::server {

// Runs `work` with SPI connected and as the extension's owner, since no other role may write to
// its tables. Raises an error if the extension is missing or of an unsupported version.
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
    // Values are passed as text. ISO prints a time zone as an offset; an abbreviation may be
    // ambiguous.
    set_config_option("datestyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    SetUserIdAndSecContext(extension.owner, context | SECURITY_LOCAL_USERID_CHANGE);
    SPI_connect();
    work();
    SPI_finish();
    SetUserIdAndSecContext(user, context);
    AtEOXact_GUC(false, nesting);
}

} // namespace job_alerting::server
