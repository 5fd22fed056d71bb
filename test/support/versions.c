/*
 * The versions of SQL objects that the library of a later release serves: VERSIONS, strings separated by
 * commas. Preloaded, this table replaces job_alerting's own.
 */
const char *const job_alerting_versions[] = {VERSIONS, 0};
