#include "server/base/prelude.hpp"

#include "server/desk/finding.hpp"

#include "server/base/settings.hpp"

namespace job_alerting::server {

Finding ok(const std::string &detail) {
    return {.state = "ok", .detail = detail, .hint = ""};
}
Finding warning(const std::string &detail, const std::string &hint) {
    return {.state = "warning", .detail = detail, .hint = hint};
}
Finding error(const std::string &detail, const std::string &hint) {
    return {.state = "error", .detail = detail, .hint = hint};
}

void add(Rows &rows, const std::string &item, const Finding &finding) {
    rows.add({item, finding.state, finding.detail,
              finding.hint.empty() ? Value() : Value(finding.hint)});
}

std::string set_statement(const char *setting, const std::string &value) {
    Transaction transaction(lock_timeout_setting());
    const Result statement = transaction.execute(
        "SELECT CASE WHEN s.source LIKE 'database%' "
        "THEN format('ALTER DATABASE %I SET %s = %L;', current_database(), s.name, $2) "
        "ELSE format('ALTER SYSTEM SET %s = %L; SELECT pg_reload_conf();', s.name, $2) END "
        "FROM pg_settings s WHERE s.name = $1",
        {setting, value});
    transaction.commit();
    return statement.rows[0][0].value();
}

} // namespace job_alerting::server
