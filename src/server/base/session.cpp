#include "server/base/prelude.hpp"

#include "server/base/session.hpp"

#include "server/base/settings.hpp"

extern "C" {
#include "catalog/pg_db_role_setting.h"
}

namespace job_alerting::server {

namespace {

struct SettingValue {
    const char *name;
    const char *value;
};

// The server's settings before those of a database and a role are applied; a list of SettingValue.
List *server_settings() {
    const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    List *settings = NIL;
    each_setting([&](const config_generic *known) {
        const char *value = GetConfigOption(known->name, true, false);
        SettingValue *setting = static_cast<SettingValue *>(palloc(sizeof(SettingValue)));
        *setting = {.name = pstrdup(known->name), .value = value ? pstrdup(value) : nullptr};
        settings = lappend(settings, setting);
    });
    MemoryContextSwitchTo(before);
    return settings;
}

const char *value_of(const char *name, List *settings) {
    ListCell *cell;
    foreach (cell, settings) {
        const SettingValue *setting = static_cast<const SettingValue *>(lfirst(cell));
        if (strcmp(setting->name, name) == 0)
            return setting->value;
    }
    return nullptr;
}

bool is_of_role(const config_generic *setting) {
    return (setting->source == PGC_S_USER || setting->source == PGC_S_DATABASE_USER) &&
           (setting->context == PGC_USERSET || setting->context == PGC_SUSET);
}

// Connecting applies the settings that ALTER ROLE set for the bootstrap superuser. Undo them: only
// settings of the server and of the database apply to a round.
void undo_role_settings(List *server) {
    bool any = false;
    each_setting([&](const config_generic *setting) {
        if (!is_of_role(setting))
            return;
        SetConfigOption(setting->name, value_of(setting->name, server), PGC_SUSET,
                        PGC_S_DATABASE_USER);
        any = true;
    });
    if (!any)
        return;
    // Apply again the settings of all roles and of the database, which the role's had replaced.
    StartTransactionCommand();
    Relation relation = table_open(DbRoleSettingRelationId, AccessShareLock);
    Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(DbRoleSettingRelationId));
    ApplySetting(snapshot, InvalidOid, InvalidOid, relation, PGC_S_DATABASE_USER);
    ApplySetting(snapshot, MyDatabaseId, InvalidOid, relation, PGC_S_DATABASE_USER);
    UnregisterSnapshot(snapshot);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
}

// Overrides the settings that change the meaning or the run time of a round's statements.
void set_fixed() {
    static const char *const settings[][2] = {
        {"search_path", "pg_catalog, pg_temp"},
        {"role", "none"},
        {"session_replication_role", "origin"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_deferrable", "off"},
        {"statement_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
        {"idle_session_timeout", "0"},
        {"datestyle", "ISO, YMD"},
        {"intervalstyle", "postgres"},
        {"standard_conforming_strings", "on"},
        {"extra_float_digits", "1"},
        {"row_security", "on"},
        {"check_function_bodies", "on"},
        {"exit_on_error", "off"},
        // A commit waits for the local disk only: a standby that does not answer would block every
        // alert.
        {"synchronous_commit", "local"},
    };
    for (const auto &setting : settings)
        SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_OVERRIDE);
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
}

} // namespace

void ignore_transaction_timeout() {
    each_setting([](config_generic *setting) {
        if (strcmp(setting->name, "transaction_timeout") != 0)
            return;
        SetConfigOption(setting->name, "0", PGC_SUSET, PGC_S_OVERRIDE);
        setting->context = PGC_SUSET;
    });
}

void connect_session(Oid database) {
    List *server = server_settings();
    ignore_transaction_timeout();
    // Another session may hold a lock on the database itself (ALTER DATABASE ... RENAME).
    SetConfigOption("lock_timeout", psprintf("%d", lock_timeout_setting()), PGC_SUSET,
                    PGC_S_OVERRIDE);
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    undo_role_settings(server);
    set_fixed();
}

} // namespace job_alerting::server
