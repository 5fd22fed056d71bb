/*
 * The versions of its SQL objects that the library of a later release serves: VERSIONS, strings
 * between commas. It stands before job_alerting's own table of them.
 */
const char *const job_alerting_versions[] = {VERSIONS, 0};
