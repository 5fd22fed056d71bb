#include "server/prelude.hpp"

#include "server/encoding.hpp"

#include "server/guard.hpp"

namespace job_alerting::server {

namespace {

using Conversion = char *(*)(const char *, int, int);

std::string converted(const std::string &text, Conversion convert) {
    if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
        return text;
    char *copy = nullptr;
    char *made = nullptr;
    guarded([&] {
        copy = pnstrdup(text.data(), text.size());
        made = convert(copy, static_cast<int>(text.size()), PG_UTF8);
    });
    std::string result = made;
    if (made != copy)
        pfree(made);
    pfree(copy);
    return result;
}

} // namespace

std::string to_utf8(const std::string &text) {
    return converted(text, pg_server_to_any);
}

std::string from_utf8(const std::string &text) {
    return converted(text, pg_any_to_server);
}

} // namespace job_alerting::server
